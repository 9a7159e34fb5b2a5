//! Settings: of the config block, and of the environment, which wins.

use super::builtins::stack_mode;
use crate::script::Diagnostic;
use crate::script::ast::{ConfigEntry, ConfigValue, Ident, Script, Span};
use crate::script::names::CONFIG_KEYS;
use crate::script::output::{Config, Missing};
use crate::script::types::StackMode;

/// What the compiler obeys, and the rest for the runtime.
pub struct Settings {
    pub strlen: u32,
    pub map_keys: u32,
    pub stack_mode: StackMode,
    pub config: Config,
}

/// Why a setting was not made.
enum Refused {
    /// There is none of that name.
    Unknown,
    /// Its values are others.
    Takes(&'static str),
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            strlen: 1024,
            map_keys: 4096,
            stack_mode: StackMode::Bpftrace,
            config: Config::default(),
        }
    }
}

impl Settings {
    /// A script's.
    pub fn read(script: &Script, diagnostics: &mut Vec<Diagnostic>) -> Settings {
        let mut settings = Settings::default();
        for entry in &script.config {
            let key = &entry.key;
            diagnostics.extend(match settings.set(&key.name, &entry.value) {
                Ok(()) => None,
                Err(Refused::Takes(what)) => {
                    let message = format!("'{}' takes {what}", key.name);
                    Some(Diagnostic::error(entry.value_span, message))
                }
                Err(Refused::Unknown) => {
                    let message = format!("there is no setting '{}'", key.name);
                    Some(Diagnostic::error(key.span, message))
                }
            });
        }
        settings
    }

    fn set(&mut self, key: &str, value: &ConfigValue) -> Result<(), Refused> {
        use ConfigValue::{Integer, Text};
        let config = &mut self.config;
        match (key, value) {
            ("max_strlen", Integer(n)) if (1..=16384).contains(n) => self.strlen = *n as u32,
            ("max_strlen", _) => return Err(Refused::Takes("a number from 1 to 16384")),
            ("max_map_keys", Integer(n)) if (1..1 << 24).contains(n) => self.map_keys = *n as u32,
            ("max_map_keys", _) => return Err(Refused::Takes("a number from 1 to 16777215")),
            ("max_cat_bytes", Integer(n)) => config.max_cat_bytes = *n,
            ("max_cat_bytes", _) => return Err(Refused::Takes("a number")),
            ("print_maps_on_exit", Integer(n)) => config.print_maps_on_exit = *n != 0,
            ("lazy_symbolication", Integer(n)) => config.lazy_symbolication = *n != 0,
            ("print_maps_on_exit" | "lazy_symbolication", _) => return Err(Refused::Takes("true or false")),
            ("str_trunc_trailer", Text(text)) => config.str_trunc_trailer.clone_from(text),
            ("license", Text(text)) => config.license.clone_from(text),
            ("str_trunc_trailer" | "license", _) => return Err(Refused::Takes("a text")),
            ("missing_probes", value) => {
                config.missing_probes =
                    named(value, missing).ok_or(Refused::Takes("error, warn or ignore"))?;
            }
            ("stack_mode", value) => {
                self.stack_mode = named(value, stack_mode).ok_or(Refused::Takes("bpftrace, perf or raw"))?;
            }
            // The others are what other back ends need: without meaning here.
            _ if known(key) => {}
            _ => return Err(Refused::Unknown),
        }
        Ok(())
    }
}

/// What has the name that the value is.
fn named<T>(value: &ConfigValue, find: impl Fn(&str) -> Option<T>) -> Option<T> {
    match value {
        ConfigValue::Text(text) => find(text),
        _ => None,
    }
}

fn missing(text: &str) -> Option<Missing> {
    Some(match text {
        "error" => Missing::Error,
        "warn" => Missing::Warn,
        "ignore" => Missing::Ignore,
        _ => return None,
    })
}

fn known(key: &str) -> bool {
    CONFIG_KEYS.contains(&key) || key.starts_with("unstable_")
}

/// Put the settings that the environment has into `script`, in the place of what its config block says: names and values
/// of variables, of which those that are called `BPFTRACE_` and a setting count.
///
/// # Errors
/// If a setting doesn't take the value.
pub fn from_environment(
    script: &mut Script,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<(), String> {
    for (variable, text) in variables {
        let Some(key) = variable.strip_prefix("BPFTRACE_") else {
            continue;
        };
        let key = key.to_ascii_lowercase();
        if !known(&key) {
            continue;
        }
        let mut value = from_text(&text);
        let mut made = Settings::default().set(&key, &value);
        if made.is_err() {
            // A text may look like a number.
            value = ConfigValue::Text(text.clone());
            made = Settings::default().set(&key, &value);
        }
        if let Err(Refused::Takes(what)) = made {
            return Err(format!("{variable}={text}: '{key}' takes {what}"));
        }
        script.config.retain(|entry| entry.key.name != key);
        let span = Span::default();
        script.config.push(ConfigEntry {
            key: Ident { name: key, span },
            value,
            value_span: span,
        });
    }
    Ok(())
}

/// As the config block has values.
fn from_text(text: &str) -> ConfigValue {
    match text {
        "true" | "yes" | "on" => return ConfigValue::Integer(1),
        "false" | "no" | "off" => return ConfigValue::Integer(0),
        _ => {}
    }
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.map_or_else(|_| ConfigValue::Text(text.into()), ConfigValue::Integer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{ParseOptions, parse};

    fn set(text: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let (mut script, wrong) = parse(text, &ParseOptions::default());
        assert!(wrong.is_empty(), "{wrong:?}");
        let variables = variables.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        from_environment(&mut script, variables)?;
        let mut diagnostics = vec![];
        let settings = Settings::read(&script, &mut diagnostics);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        Ok(settings)
    }

    #[test]
    fn the_environment_wins_over_the_config_block() {
        let script = "config = { max_strlen = 64; max_map_keys = 7 } BEGIN { }";
        let variables = [
            ("BPFTRACE_MAX_STRLEN", "0x20"),
            ("BPFTRACE_PRINT_MAPS_ON_EXIT", "no"),
            ("BPFTRACE_STR_TRUNC_TRAILER", "5"),
            ("BPFTRACE_COLOR", "never"),
            ("MAX_STRLEN", "7"),
        ];
        let settings = set(script, &variables).unwrap();
        assert_eq!((settings.strlen, settings.map_keys), (32, 7));
        assert!(!settings.config.print_maps_on_exit);
        assert_eq!(settings.config.str_trunc_trailer, "5");
    }

    #[test]
    fn a_value_that_a_setting_does_not_take_is_an_error() {
        for (key, text) in [
            ("BPFTRACE_MAX_STRLEN", "many"),
            ("BPFTRACE_MAX_STRLEN", ""),
            ("BPFTRACE_MAX_MAP_KEYS", "-3"),
            ("BPFTRACE_STACK_MODE", "zzz"),
            ("BPFTRACE_MISSING_PROBES", "1"),
            ("BPFTRACE_PRINT_MAPS_ON_EXIT", "perhaps"),
        ] {
            let message = set("BEGIN { }", &[(key, text)]).err().expect(key);
            assert!(message.starts_with(&format!("{key}={text}: ")), "{message}");
        }
    }
}
