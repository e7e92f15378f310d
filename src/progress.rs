//! The renderers of progress: bars, plain lines, JSON lines.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle as BarStyle};
use nodekiln_words::{Bytes, Event, Progress, TaskId};

use crate::arguments::ProgressStyle;
use crate::exit::print_error;

/// The renderer that fits `style` and this terminal.
pub(crate) fn renderer(style: ProgressStyle) -> Arc<dyn Progress> {
    match style {
        ProgressStyle::Auto if std::io::stderr().is_terminal() => Arc::new(Bars::default()),
        ProgressStyle::Auto | ProgressStyle::Plain => Arc::new(Lines::default()),
        ProgressStyle::Json => Arc::new(JsonLines::default()),
        ProgressStyle::Quiet => Arc::new(WarningsOnly),
    }
}

/// A plain renderer says where a long task stands this often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);
/// A plain renderer says this often what a task waits for that nothing is counted of.
const PLAIN_WAITING: Duration = Duration::from_secs(30);

/// A running task, as the plain renderer knows it.
struct Running {
    title: String,
    total: Option<u64>,
    unit: &'static str,
    begun: Instant,
    said: Instant,
}

impl Running {
    fn is_counted(&self) -> bool {
        !self.unit.is_empty()
    }

    fn interval(&self) -> Duration {
        if self.is_counted() { PLAIN_INTERVAL } else { PLAIN_WAITING }
    }

    /// How far the task is, and what is at hand.
    fn standing(&self, done: u64, detail: Option<&str>) -> String {
        let mut line = self.title.clone();
        if self.is_counted() {
            line += &format!(" {}", amount(done, self.total, self.unit));
        }
        if let Some(detail) = detail {
            line += &format!(": {detail}");
        }
        line
    }
}

/// One line when a task ends, and now and then while it lasts.
#[derive(Default)]
struct Lines(Mutex<BTreeMap<TaskId, Running>>);

impl Progress for Lines {
    fn event(&self, event: Event) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { task, title, total, unit } => {
                let now = Instant::now();
                tasks.insert(task, Running { title, total, unit, begun: now, said: now });
            }
            Event::Advanced { task, done, detail } => {
                if let Some(running) = tasks.get_mut(&task)
                    && running.said.elapsed() > running.interval()
                {
                    running.said = Instant::now();
                    print_error(&format!("  ...  {}\n", running.standing(done, detail.as_deref())));
                }
            }
            Event::Finished { task, note } => {
                if let Some(running) = tasks.remove(&task) {
                    let seconds = running.begun.elapsed().as_secs_f64();
                    print_error(&format!("  {seconds:5.1}s  {}: {note}\n", running.title));
                }
            }
            Event::Failed { task } => {
                if let Some(running) = tasks.remove(&task) {
                    print_error(&format!("  failed  {}\n", running.title));
                }
            }
            Event::Note(text) => print_error(&format!("  {text}\n")),
            Event::Warning(text) => print_error(&format!("warning: {text}\n")),
        }
    }
}

/// `120 of 231 packages`, `41.0 MiB of 180.2 MiB`.
fn amount(done: u64, total: Option<u64>, unit: &str) -> String {
    let show = |n: u64| if unit == "B" { Bytes(n).to_string() } else { n.to_string() };
    let unit = if unit == "B" { "" } else { unit };
    match total {
        Some(total) => format!("{} of {} {unit}", show(done), show(total)).trim_end().to_owned(),
        None => format!("{} {unit}", show(done)).trim_end().to_owned(),
    }
}

/// Bars for running tasks; a line stays for each that ended.
struct Bars {
    screen: MultiProgress,
    /// Each with its title.
    tasks: Mutex<BTreeMap<TaskId, (ProgressBar, String)>>,
}

impl Default for Bars {
    fn default() -> Self {
        Self { screen: MultiProgress::new(), tasks: Mutex::default() }
    }
}

impl Bars {
    fn bar(total: Option<u64>, unit: &str) -> ProgressBar {
        let template = match (total, unit) {
            (Some(_), "B") => {
                "{spinner} {prefix:40!} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}"
            }
            (Some(_), _) => "{spinner} {prefix:40!} {wide_bar} {pos}/{len}",
            (None, _) => "{spinner} {prefix} {elapsed} {wide_msg}",
        };
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        if let Ok(style) = BarStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }
}

impl Progress for Bars {
    fn event(&self, event: Event) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { task, title, total, unit } => {
                let bar = self.screen.add(Self::bar(total, unit));
                bar.set_prefix(title.clone());
                tasks.insert(task, (bar, title));
            }
            Event::Advanced { task, done, detail } => {
                if let Some((bar, _)) = tasks.get(&task) {
                    bar.set_position(done);
                    if let Some(detail) = detail {
                        bar.set_message(detail);
                    }
                }
            }
            Event::Finished { task, note } => {
                if let Some((bar, title)) = tasks.remove(&task) {
                    let seconds = bar.elapsed().as_secs_f64();
                    bar.finish_and_clear();
                    let _ = self.screen.println(format!("  {seconds:5.1}s  {title}: {note}"));
                }
            }
            Event::Failed { task } => {
                if let Some((bar, title)) = tasks.remove(&task) {
                    bar.finish_and_clear();
                    let _ = self.screen.println(format!("  failed  {title}"));
                }
            }
            Event::Note(text) => {
                let _ = self.screen.println(format!("  {text}"));
            }
            Event::Warning(text) => {
                let _ = self.screen.println(format!("warning: {text}"));
            }
        }
    }
}

/// One JSON object a line, as docs/cli.md describes them.
#[derive(Default)]
struct JsonLines(Mutex<BTreeMap<TaskId, String>>);

impl Progress for JsonLines {
    fn event(&self, event: Event) {
        let mut titles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = match event {
            Event::Started { task, title, total, unit } => {
                titles.insert(task, title.clone());
                serde_json::json!({"event": "started", "task": title, "total": total, "unit": unit})
            }
            Event::Advanced { task, done, detail } => {
                let title = titles.get(&task);
                serde_json::json!({"event": "advanced", "task": title, "done": done, "detail": detail})
            }
            Event::Finished { task, note } => {
                let title = titles.remove(&task);
                serde_json::json!({"event": "finished", "task": title, "note": note})
            }
            Event::Failed { task } => {
                let title = titles.remove(&task);
                serde_json::json!({"event": "failed", "task": title})
            }
            Event::Note(text) => serde_json::json!({"event": "note", "text": text}),
            Event::Warning(text) => serde_json::json!({"event": "warning", "text": text}),
        };
        print_error(&format!("{line}\n"));
    }
}

/// Warnings and nothing else.
struct WarningsOnly;

impl Progress for WarningsOnly {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = event {
            print_error(&format!("warning: {text}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_tells_what_is_counted_and_what_it_waits_for() {
        let now = Instant::now();
        let running =
            |unit, total| Running { title: "x".into(), total, unit, begun: now, said: now };
        assert_eq!(running("specs", Some(7)).standing(3, None), "x 3 of 7 specs");
        assert_eq!(running("", None).standing(0, Some("no answer yet")), "x: no answer yet");
        assert!(running("", None).interval() > running("B", None).interval());
    }

    #[test]
    fn amounts_name_their_unit() {
        assert_eq!(amount(3, Some(7), "packages"), "3 of 7 packages");
        assert_eq!(amount(1 << 20, Some(2 << 20), "B"), "1 MiB of 2 MiB");
        assert_eq!(amount(5, None, "files"), "5 files");
    }
}
