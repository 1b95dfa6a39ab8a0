//! `viworks plugin explain`: the page of a refusal's code, as it stands in `docs/plugins`.

use clap::Args;
use serde_json::json;

use super::embedded::{PAGES, text};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};

/// Which code.
#[derive(Clone, Debug, Args)]
pub struct ExplainOptions {
    /// A refusal's code, e.g. forbidden_import
    #[arg(value_name = "CODE")]
    pub code: String,
}

/// Where the page of `code` stands in the repository.
pub fn page_of(code: &str) -> String {
    format!("docs/plugins/{code}.md")
}

pub(super) fn command(options: &ExplainOptions, sink: &Sink) -> Result<Exit, Failure> {
    let code = &options.code;
    let Some(page) = text(PAGES, &page_of(code)) else {
        let known: Vec<&str> = runtime::Code::ALL.iter().map(|code| code.as_str()).collect();
        let code = escape::line(code);
        return Err(Failure::usage(format!("no refusal has the code `{code}`; there are: {}", known.join(", "))));
    };
    sink.one(&json!({ "code": code, "page": page }), code, || page.to_owned())?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_can_be_explained() {
        for code in runtime::Code::ALL {
            assert!(text(PAGES, &page_of(code.as_str())).is_some(), "{} has no page", code.as_str());
        }
    }
}
