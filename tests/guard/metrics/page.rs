//! What is written about the metrics, and drawn, against what there is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{FETCHES, Recorder, watched};
use crate::{memory, plain};

const TABLE: &str = include_str!("../../../src/metrics.rs");
const PAGE: &str = include_str!("../../../docs/metrics.md");
const DASHBOARD: &str = include_str!("../../../examples/grafana.json");

fn recorder() -> Recorder {
    let recorder = Recorder::default();
    drop(watched(&recorder, memory(), plain()));
    recorder
}

/// The cells of each row of the table.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    let rows = TABLE.lines().filter(|line| line.starts_with("//! | `cattleguard_"));
    rows.map(|row| row.split('|').skip(1).map(str::trim).collect())
}

/// What stands in backquotes.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_table_says_which_metrics_there_are() {
    let recorder = recorder();
    let bare = |name: &str| name.trim_matches('`').to_owned();
    let table: BTreeMap<_, _> = rows().map(|row| (bare(row[0]), row[1])).collect();
    assert_eq!(recorder.kinds(), table);

    let series = recorder.series();
    for row in rows() {
        let of: Vec<_> = series.iter().filter(|series| series.name == bare(row[0])).collect();
        let labels: BTreeSet<_> = of.iter().flat_map(|series| series.labels.keys()).collect();
        assert_eq!(labels, quoted(row[3]).iter().collect(), "{}", row[0]);
        // The outcomes have tables of their own.
        if row[0].contains("fetches_total") {
            continue;
        }
        let words = of.iter().flat_map(|series| &series.labels);
        let words = words.filter(|(label, _)| *label != "guard").map(|(_, word)| word);
        assert_eq!(words.collect::<BTreeSet<_>>(), quoted(row[4]).iter().collect(), "{}", row[0]);
    }
}

#[test]
fn the_guide_names_every_metric() {
    let names = |text: &str| -> BTreeSet<String> {
        quoted(text).into_iter().filter(|word| word.starts_with("cattleguard_")).collect()
    };
    let (_, table) = PAGE.split_once("\n| metric |").expect("the table");
    let (table, _) = table.split_once("\n\n").expect("its end");
    assert_eq!(names(table), recorder().kinds().into_keys().collect());
}

/// Every PromQL expression of the dashboard.
fn expressions(of: &Value, found: &mut Vec<String>) {
    match of {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == "expr" => found.push(text.to_owned()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

/// The metrics that an expression names, each with what stands in its braces.
fn selectors(expression: &str) -> Vec<(String, &str)> {
    let starts = expression.match_indices("cattleguard_").map(|(at, _)| &expression[at..]);
    starts
        .map(|text| {
            let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let (name, rest) = text.split_at(end.unwrap_or(text.len()));
            let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            (name.to_owned(), labels.map_or("", |(labels, _)| labels))
        })
        .collect()
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let mut expressions_of = Vec::new();
    expressions(&dashboard, &mut expressions_of);
    let recorder = recorder();
    let (kinds, series) = (recorder.kinds(), recorder.series());
    let mut shown = BTreeSet::new();
    for expression in &expressions_of {
        for (name, labels) in selectors(expression) {
            let bare = name.strip_suffix("_bucket").or(name.strip_suffix("_count"));
            let bare = bare.or(name.strip_suffix("_sum"));
            let is_histogram =
                bare.is_some_and(|bare| kinds.get(bare).is_some_and(|kind| *kind == "histogram"));
            let metric = if is_histogram { bare.expect("a suffix") } else { &name };
            assert!(kinds.contains_key(metric), "{name} in {expression}");
            assert!(labels.contains(r#"guard=~"$guard""#), "whose {name} in {expression}?");
            // Each alternative is a word that there is.
            for matcher in labels.split("\",").filter(|matcher| !matcher.contains("$guard")) {
                let (label, values) = matcher.split_once('=').expect("a matcher");
                let values = values.trim_matches(|c| "=~\"".contains(c));
                for value in values.split('|') {
                    let is_meant = |word: &String| match value.strip_suffix(".*") {
                        Some(prefix) => word.starts_with(prefix),
                        None => word == value,
                    };
                    let of = series.iter().filter(|series| series.name == metric);
                    let mut words = of.filter_map(|series| series.labels.get(label));
                    assert!(words.any(is_meant), "{label} {value} in {expression}");
                }
            }
            shown.insert(metric.to_owned());
        }
    }
    assert!(shown.contains(FETCHES));
    assert_eq!(shown, kinds.into_keys().collect());
}

#[test]
fn every_panel_of_the_dashboard_has_its_place_and_the_chosen_datasource() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let names: Vec<_> = variables.iter().map(|variable| &variable["name"]).collect();
    assert_eq!(names, ["datasource", "guard"]);
    assert_eq!(variables[0]["type"], "datasource");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        assert!(panel["title"].is_string() && panel["description"].is_string(), "{panel}");
        let place = |side: &str| panel["gridPos"][side].as_u64().expect("a place");
        for x in place("x")..place("x") + place("w") {
            assert!(x < 24, "{panel}");
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "two panels at {x}, {y}");
            }
        }
    }
}
