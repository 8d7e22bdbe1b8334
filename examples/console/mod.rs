//! How an example speaks to its terminal.

use std::process::ExitCode;

use clap::Parser;

/// The arguments, or one line that says what is wrong with them.
pub fn parse<Args: Parser>() -> Result<Args, String> {
    use clap::error::ErrorKind;

    match Args::try_parse() {
        Ok(args) => Ok(args),
        Err(asked)
            if matches!(asked.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            asked.exit()
        }
        Err(error) => {
            let text = error.to_string();
            let lines: Vec<_> = text
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .take_while(|line| !line.starts_with("Usage") && !line.starts_with("For more"))
                .collect();
            Err(format!("{} (see --help)", lines.join(" ").trim_start_matches("error: ")))
        }
    }
}

/// One line, exit code 2.
pub fn bad_input(program: &str, line: &str) -> ExitCode {
    eprintln!("{program}: {line}");
    ExitCode::from(2)
}

pub fn failed(program: &str, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{program}: {}", chain(error));
    ExitCode::FAILURE
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_line = inner.to_string();
        if !line.contains(&inner_line) {
            line += &format!(": {inner_line}");
        }
        cause = inner.source();
    }
    line.replace('\n', " ")
}

/// Ends with Ctrl-C, or when somebody asks the program to end.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};

    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}
