//! The `highwater` command. Everything it does is in the library or in [`cli`]; here is only what belongs to a process.

mod cli;

/// Views are read, subscribed to and merged by different threads than those that allocated them: the system's allocator
/// returns such memory late and slowly, mimalloc does not.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
