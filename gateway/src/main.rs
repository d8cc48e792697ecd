//! Tidegate's edge gateway: parses the arguments and chooses the command.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use gateway::commands::{self, check, crds, explain, plan, schema, status, uninstall, vpn};
use gateway::config::Config;
use gateway::{app, demo};
use tracing_subscriber::EnvFilter;

/// Tidegate's edge gateway
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    /// What is logged, such as info or gateway=debug,warn
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
    /// Serve
    Run {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say what is wrong with the configuration and the manifests
    Check(check::CheckArgs),
    /// Show what would be in force
    Plan(plan::PlanArgs),
    /// Show which rule takes a request, and why
    Explain(explain::ExplainArgs),
    /// Print the configuration's JSON schema
    Schema,
    /// Print the CustomResourceDefinitions of Tidegate's own kinds
    Crds(crds::CrdsArgs),
    /// Show how the running gateway is
    Status(status::StatusArgs),
    /// Take away what a gateway has put on this machine, such as one that was killed
    Uninstall(uninstall::UninstallArgs),
    /// Connections to other sites
    #[command(subcommand)]
    Vpn(vpn::VpnCommand),
    /// Serve the quickstart with two backends of its own, on loopback
    Demo {
        /// The quickstart's configuration
        #[arg(long, value_name = "FILE", default_value = "configs/quickstart/gateway.yaml")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    commands::finish(run(Cli::parse()))
}

fn run(cli: Cli) -> Result<ExitCode> {
    start_log(&cli.log, cli.log_format)?;
    let mut out = io::stdout().lock();
    match cli.command {
        Command::Run { config } => {
            // Other threads write to standard output too.
            drop(out);
            app::run(Config::load(&config)?)?;
        }
        Command::Demo { config } => {
            drop(out);
            demo::run(&config)?;
        }
        Command::Check(args) => return check::run(&args, &mut out),
        Command::Plan(args) => return plan::run(&args, &mut out),
        Command::Explain(args) => return explain::run(&args, &mut out),
        Command::Status(args) => return status::run(&args, &mut out),
        Command::Uninstall(args) => return uninstall::run(&args, &mut out),
        Command::Vpn(command) => return vpn::run(&command, &mut out),
        Command::Schema => return schema::run(&mut out),
        Command::Crds(args) => return crds::run(&args, &mut out),
    }
    Ok(ExitCode::SUCCESS)
}

fn start_log(filter: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| {
        format!("--log: {filter:?}; write a level such as info, or gateway=debug")
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
