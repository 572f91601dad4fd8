//! The command line's door: environment and clock are read here, and the exit
//! code leaves here.

fn main() {}
