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

/// A running task, as the plain renderer knows it.
struct Running {
    title: String,
    total: Option<u64>,
    unit: &'static str,
    begun: Instant,
    said: Instant,
}

/// One line when a task ends, and every ten seconds while it lasts.
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
            Event::Advanced { task, done, .. } => {
                if let Some(running) = tasks.get_mut(&task)
                    && running.said.elapsed() > PLAIN_INTERVAL
                {
                    running.said = Instant::now();
                    let amount = amount(done, running.total, running.unit);
                    print_error(&format!("  ...  {} {amount}\n", running.title));
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
    tasks: Mutex<BTreeMap<TaskId, ProgressBar>>,
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
                "{spinner} {msg:40!} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}"
            }
            (Some(_), _) => "{spinner} {msg:40!} {wide_bar} {pos}/{len}",
            (None, _) => "{spinner} {msg} {elapsed}",
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
                bar.set_message(title);
                tasks.insert(task, bar);
            }
            Event::Advanced { task, done, .. } => {
                if let Some(bar) = tasks.get(&task) {
                    bar.set_position(done);
                }
            }
            Event::Finished { task, note } => {
                if let Some(bar) = tasks.remove(&task) {
                    let (title, seconds) = (bar.message(), bar.elapsed().as_secs_f64());
                    bar.finish_and_clear();
                    let _ = self.screen.println(format!("  {seconds:5.1}s  {title}: {note}"));
                }
            }
            Event::Failed { task } => {
                if let Some(bar) = tasks.remove(&task) {
                    let title = bar.message();
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
    fn amounts_name_their_unit() {
        assert_eq!(amount(3, Some(7), "packages"), "3 of 7 packages");
        assert_eq!(amount(1 << 20, Some(2 << 20), "B"), "1 MiB of 2 MiB");
        assert_eq!(amount(5, None, "files"), "5 files");
    }
}
