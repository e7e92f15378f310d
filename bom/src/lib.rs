//! The bom room.
