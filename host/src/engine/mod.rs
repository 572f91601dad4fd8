//! What runs models. HTTP and JSON wire types never leave this room.

pub mod embedded;
