//! The build room.
