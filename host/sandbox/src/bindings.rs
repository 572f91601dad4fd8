//! The types that wasmtime generates from `wit/prompts.wit`. Only this crate uses them;
//! `convert` maps them to the types of `contract`.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "generated"
)]

wasmtime::component::bindgen!("pack");
