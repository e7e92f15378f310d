//! The ci room.
