//! The `ktrail` command.

fn main() -> std::process::ExitCode {
    ktrail::cli::main()
}
