//! Metrics of several jobs as one text in the OpenMetrics format.

use indexmap::IndexMap;

/// A family: its comments, and the samples of all jobs.
#[derive(Default)]
struct Family {
    about: Vec<String>,
    samples: Vec<String>,
}

/// Puts texts together: families once, each sample with its job's name. `own`: a text without jobs.
pub fn merge(own: &str, jobs: &[(String, String)]) -> String {
    let mut families: IndexMap<String, Family> = IndexMap::new();
    add(&mut families, own, None);
    jobs.iter().for_each(|(name, text)| add(&mut families, text, Some(name)));
    let mut out = String::new();
    for line in families.values().flat_map(|f| f.about.iter().chain(&f.samples)) {
        out.push_str(line);
        out.push('\n');
    }
    out + "# EOF\n"
}

fn add(families: &mut IndexMap<String, Family>, text: &str, job: Option<&str>) {
    let mut current = String::new();
    for line in text.lines().filter(|l| !l.is_empty() && *l != "# EOF") {
        match line.strip_prefix("# ").map(|about| about.splitn(3, ' ')) {
            Some(mut words) => {
                current = words.nth(1).unwrap_or_default().to_owned();
                let about = &mut families.entry(current.clone()).or_default().about;
                if !about.iter().any(|l| l == line) {
                    about.push(line.to_owned());
                }
            }
            None => families.entry(current.clone()).or_default().samples.push(job.map_or_else(|| line.to_owned(), |j| labelled(line, j))),
        }
    }
}

/// A sample with the job's name before its other labels.
fn labelled(sample: &str, job: &str) -> String {
    let label = format!("job_name=\"{job}\"");
    match sample.find(['{', ' ']) {
        Some(at) if sample[at..].starts_with("{}") => format!("{}{{{label}}}{}", &sample[..at], &sample[at + 2..]),
        Some(at) if sample[at..].starts_with('{') => format!("{}{{{label},{}", &sample[..at], &sample[at + 1..]),
        Some(at) => format!("{}{{{label}}}{}", &sample[..at], &sample[at..]),
        None => sample.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stay_together() {
        let text =
            |n: u32| format!("# HELP rows Rows.\n# TYPE rows counter\nrows_total {n}\n# TYPE lag gauge\nlag{{split=\"a b\"}} {n}\n# EOF\n");
        let merged = merge("# TYPE slots gauge\nslots 3\n# EOF\n", &[("x".into(), text(1)), ("y".into(), text(2))]);
        let want = "# TYPE slots gauge\nslots 3\n# HELP rows Rows.\n# TYPE rows counter\nrows_total{job_name=\"x\"} 1\n\
                    rows_total{job_name=\"y\"} 2\n# TYPE lag gauge\nlag{job_name=\"x\",split=\"a b\"} 1\n\
                    lag{job_name=\"y\",split=\"a b\"} 2\n# EOF\n";
        assert_eq!(merged, want);
        assert_eq!(merge("", &[]), "# EOF\n");
    }
}
