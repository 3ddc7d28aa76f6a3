//! Every verb explains itself.

use std::process::Command;

fn help(path: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_deepmarket")).args(path).arg("--help").output().unwrap();
    assert!(output.status.success(), "{path:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names under "Commands:".
fn verbs(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_verb_has_help_with_an_example_and_takes_json() {
    let mut seen = 0;
    for verb in verbs(&help(&[])) {
        let text = help(&[&verb]);
        let below = verbs(&text);
        let paths: Vec<Vec<&str>> =
            if below.is_empty() { vec![vec![&verb]] } else { below.iter().map(|b| vec![verb.as_str(), b]).collect() };
        for path in paths {
            let text = help(&path);
            assert!(text.contains("Example:"), "{path:?} shows no example");
            assert!(text.contains(&format!("deepmarket {}", path.join(" "))), "{path:?}: the example is of another verb");
            assert!(text.contains("--json"), "{path:?} has no --json");
            seen += 1;
        }
    }
    assert!(seen >= 34, "only {seen} verbs were found");
}

#[test]
fn an_unknown_verb_is_the_users_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_deepmarket")).arg("borow").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("borow"));
}
