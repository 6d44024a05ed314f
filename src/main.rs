//! The program `pygmy`: parses the command line, runs it, ends with its exit code.

use std::process::ExitCode;

use clap::Parser;
use pygmy::cli::{Cli, Exit, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(cli)).into(),
        Err(error) => {
            eprintln!("pygmy: the operating system gives no threads: {error}");
            Exit::No.into()
        }
    }
}
