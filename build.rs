//! Compiles api/api.proto to Rust, and to the descriptor set of server reflection.
//!
//! protox is a compiler in Rust: a build needs no protoc. The descriptor set keeps the comments, which `grpcurl describe`
//! shows.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost_build::Config;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=api/api.proto");
    let mut compiler = protox::Compiler::new(["api"])?;
    compiler.include_source_info(true).include_imports(true).open_file("api.proto")?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("api.descriptors.bin"), compiler.encode_file_descriptor_set())?;

    let mut prost = Config::new();
    // Values arrive as slices of the buffer that the transport read them into, without a copy.
    prost.bytes(["."]);
    // Plain records have no proposal, and messages between nodes are moved often.
    prost.boxed(".api.PeerLookup.proposal").boxed(".api.PeerStore.proposal");
    // A test server implements the methods that its test calls; the others answer UNIMPLEMENTED.
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .codec_path("crate::wire::codec::ProtobufCodec")
        .compile_fds_with_config(compiler.file_descriptor_set(), prost)?;
    Ok(())
}
