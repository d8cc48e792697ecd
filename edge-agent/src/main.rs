//! The agent on the nodes: parses the arguments and chooses the command.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use edge_agent::commands::{self, ConfigArgs, check, status, uninstall};
use edge_agent::{agent, config::Config};
use tracing_subscriber::EnvFilter;

/// Tidegate's agent on the nodes
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    /// What is logged, such as info or edge_agent=debug,warn
    #[arg(long, global = true, value_name = "FILTER", default_value = "info")]
    log: String,
    /// How the log is written, to standard error
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Connect this node with the edges
    Run(ConfigArgs),
    /// Say how the running agent is
    Status(status::StatusArgs),
    /// Say what is wrong with the configuration, and what the API doesn't allow
    Check(check::CheckArgs),
    /// Print the configuration's JSON schema
    Schema,
    /// Take away interfaces, routes, rules and the Node's annotations
    Uninstall(uninstall::UninstallArgs),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        // Who reads the output has seen enough, as `head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run(cli: Cli) -> Result<ExitCode> {
    start_log(&cli.log, cli.log_format)?;
    let mut out = io::stdout().lock();
    match cli.command {
        Command::Run(args) => {
            drop(out);
            agent::run(Config::load(&args.config)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Status(args) => status::run(&args, &mut out),
        Command::Check(args) => check::run(&args, &mut out),
        Command::Schema => commands::schema(&mut out),
        Command::Uninstall(args) => uninstall::run(&args, &mut out),
    }
}

fn start_log(filter: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| {
        format!("--log: {filter:?}; write a level such as info, or edge_agent=debug")
    })?;
    // It calls an idle peer an error. What is wrong with peers is said by who asks them.
    let quiet = "boringtun=off".parse().context("a directive")?;
    let filter =
        if filter.to_string().contains("boringtun") { filter } else { filter.add_directive(quiet) };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
