//! `watchdog completions`: scripts that complete commands, options and the names of services.
//!
//! The scripts are generated from the definitions that the command line is parsed by. What they cannot know, the
//! names of services, the shell asks for when it needs them: a few lines are added for each shell that call
//! `watchdog completions --services`, with the config that was typed. The generators have a way of their own to do
//! that, which is not stable yet, and knows nothing of the config.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::{Shell as Generator, generate};
use clap_complete_nushell::Nushell;

use crate::cli::{self, Cli, Shell};
use crate::commands::{discovered, print};
use crate::config;
use crate::error::Error;

/// Prints the script, or the names that it asks for.
pub fn run(options: &cli::Completions, config: Option<&Path>) -> Result<u8, Error> {
    match options.shell {
        Some(shell) => print(&script(shell))?,
        None => print(&names(config))?,
    }
    Ok(0)
}

/// The names of the services and scales, one a line; nothing where the config is wrong: a shell has no place to say so.
fn names(config: Option<&Path>) -> String {
    config::find(config)
        .and_then(|path| config::load(&path))
        .map(|mut config| {
            discovered::add_remembered(&mut config);
            config.names().flat_map(|name| [name, "\n"]).collect()
        })
        .unwrap_or_default()
}

/// The script for a shell.
pub fn script(shell: Shell) -> String {
    let mut command = Cli::command();
    let mut bytes = Vec::new();
    let name = "watchdog";
    match shell {
        Shell::Bash => generate(Generator::Bash, &mut command, name, &mut bytes),
        Shell::Zsh => generate(Generator::Zsh, &mut command, name, &mut bytes),
        Shell::Fish => generate(Generator::Fish, &mut command, name, &mut bytes),
        Shell::Elvish => generate(Generator::Elvish, &mut command, name, &mut bytes),
        Shell::Powershell => generate(Generator::PowerShell, &mut command, name, &mut bytes),
        Shell::Nushell => generate(Nushell, &mut command, name, &mut bytes),
    }
    let generated = String::from_utf8_lossy(&bytes).into_owned();
    match shell {
        Shell::Bash => generated + &bash(),
        Shell::Zsh => zsh(&generated),
        Shell::Fish => generated + &fish(),
        Shell::Elvish => generated + &elvish(),
        Shell::Nushell => nushell(&generated),
        Shell::Powershell => generated,
    }
}

/// The commands that take names of services.
fn takers() -> Vec<String> {
    Cli::command()
        .get_subcommands()
        .filter(|command| {
            command.get_positionals().any(|argument| {
                argument
                    .get_value_names()
                    .is_some_and(|names| names.iter().any(|name| name == "SERVICE"))
            })
        })
        .map(|command| command.get_name().to_owned())
        .collect()
}

/// A function before the generated one: it adds the names where one can stand.
fn bash() -> String {
    BASH.replace("COMMANDS", &takers().join("|"))
}

const BASH: &str = r#"
_watchdog_and_services() {
    _watchdog "$@"
    local cur=${COMP_WORDS[COMP_CWORD]} word command="" config=() i
    [[ $cur == -* || ${COMP_WORDS[COMP_CWORD-1]} == -* && ${COMP_WORDS[COMP_CWORD-1]} != --@(dry-run|no-mail|no-notify|json|quiet|force|verbose) ]] && return
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
            -c|--config) config=(--config "${COMP_WORDS[i+1]}"); ((i++)) ;;
            --color) ((i++)) ;;
            -*) ;;
            *) command=${command:-$word} ;;
        esac
    done
    case $command in
        COMMANDS)
            COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" "${config[@]}" completions --services 2>/dev/null)" -- "$cur")) ;;
    esac
}
if [[ ${BASH_VERSINFO[0]} -eq 4 && ${BASH_VERSINFO[1]} -ge 4 || ${BASH_VERSINFO[0]} -gt 4 ]]; then
    complete -F _watchdog_and_services -o nosort -o bashdefault -o default watchdog
else
    complete -F _watchdog_and_services -o bashdefault -o default watchdog
fi
"#;

/// The generated script with another function in the places where a name can stand.
fn zsh(generated: &str) -> String {
    let mut script = String::new();
    for line in generated.lines() {
        // '*::services -- Only these services:_default'
        let of_service = [
            "'::services ",
            "'*::services ",
            "':service ",
            "'*:services ",
            "':services ",
        ]
        .iter()
        .any(|start| line.trim_start().starts_with(start) || line.contains(start));
        if of_service {
            script.push_str(&line.replace(":_default'", ":_watchdog_services'"));
        } else {
            script.push_str(line);
        }
        script.push('\n');
        if line.starts_with("#compdef") {
            script.push_str(ZSH);
        }
    }
    script
}

const ZSH: &str = r#"
_watchdog_services() {
    local -a config names
    local i
    for ((i = 2; i < ${#words}; i++)); do
        case $words[i] in (-c|--config) config=(--config "$words[i+1]") ;; esac
    done
    if [[ -n ${opt_args[--config]-} ]]; then config=(--config "${opt_args[--config]}"); fi
    if [[ -n ${opt_args[-c]-} ]]; then config=(--config "${opt_args[-c]}"); fi
    names=(${(f)"$(_call_program services watchdog ${(q)config} completions --services 2>/dev/null)"})
    compadd -a names
}
"#;

fn fish() -> String {
    format!(
        "\nfunction __fish_watchdog_services\n    set -l words (commandline -opc)\n    set -l config\n    \
         for i in (seq 2 (count $words))\n        if contains -- $words[$i] -c --config\n            \
         set config --config $words[(math $i + 1)]\n        end\n    end\n    \
         watchdog $config completions --services 2>/dev/null\nend\n\
         complete -c watchdog -n \"__fish_watchdog_using_subcommand {}\" -f -a \"(__fish_watchdog_services)\"\n",
        takers().join("; or __fish_watchdog_using_subcommand ")
    )
}

/// A function around the generated one: where a name can stand, it gives the names.
fn elvish() -> String {
    ELVISH.replace("COMMANDS", &takers().join(" "))
}

const ELVISH: &str = r"
var watchdog-generated~ = $edit:completion:arg-completer[watchdog]
set edit:completion:arg-completer[watchdog] = {|@words|
    var command = ''
    var config = []
    var awaited = ''
    for word $words[1..-1] {
        if (eq $awaited config) {
            set config = [--config $word]
            set awaited = ''
        } elif (not-eq $awaited '') {
            set awaited = ''
        } elif (has-value [-c --config] $word) {
            set awaited = config
        } elif (has-value [--color --for --reason --since --max-age --every --log] $word) {
            set awaited = value
        } elif (and (eq $command '') (not (str:has-prefix $word '-'))) {
            set command = $word
        }
    }
    if (and (eq $awaited '') (has-value [COMMANDS] $command) (not (str:has-prefix $words[-1] '-'))) {
        try { (external $words[0]) $@config completions --services 2>/dev/null | from-lines } catch { }
    } else {
        watchdog-generated $@words
    }
}
";

/// The generated module with another type for the arguments that are names.
fn nushell(generated: &str) -> String {
    let named = generated
        .replace(
            "...services: string ",
            "...services: string@\"nu-complete watchdog services\" ",
        )
        .replace(
            "    service: string ",
            "    service: string@\"nu-complete watchdog services\" ",
        )
        .replace(
            "    service?: string ",
            "    service?: string@\"nu-complete watchdog services\" ",
        );
    named.replacen(
        "module completions {\n",
        &format!("module completions {{\n{NUSHELL}"),
        1,
    )
}

const NUSHELL: &str = r#"
  def "nu-complete watchdog services" [context: string] {
    let config = ($context | parse --regex '\s(?:-c|--config)[ =](?<file>\S+)')
    if ($config | is-empty) {
      ^watchdog completions --services | lines
    } else {
      ^watchdog --config ($config | first | get file) completions --services | lines
    }
  }
"#;
