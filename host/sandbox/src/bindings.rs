//! What `wit/prompts.wit` looks like in Rust. The types made here never leave
//! the pack room: `convert` turns them into the host's own words at the door.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "generated"
)]

wasmtime::component::bindgen!({
    world: "pack",
    path: "../../wit",
});
