//! `FULGURITE_TRACE`: a file with the times of all kernels, in the format of Chrome's tracing, which Perfetto reads.
//!
//! Comes in: the kernels of a program with their times, as profiles measure them. Goes out: the file, to which each
//! program adds its events, and which is whole after each. A device is a process of the trace and a program a thread,
//! whose kernels follow each other; when they ran is not in it.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use fulgurite_jit::array::Device;
use fulgurite_jit::dump::trace_file;

/// What the file begins with.
const BEGIN: &str = "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n";

/// What it ends with: the events of the next program are written over it.
const END: &str = "\n]}\n";

/// A kernel, or several that are timed together.
pub(crate) struct Span {
    /// What is shown.
    pub(crate) name: String,
    /// Its time.
    pub(crate) time: Duration,
    /// What is shown of it when it is selected.
    pub(crate) details: Vec<(&'static str, f64)>,
}

/// A trace that is written.
struct Trace<F> {
    file: F,
    /// How many programs are in it.
    programs: usize,
}

/// The trace; none where the file cannot be written, which is told once.
static TRACE: LazyLock<Mutex<Option<Trace<File>>>> = LazyLock::new(|| {
    let open = |path: &Path| File::create(path).inspect_err(|error| tell(path, error)).ok();
    Mutex::new(trace_file().and_then(open).map(|file| Trace { file, programs: 0 }))
});

/// Adds a program to the trace, if there is to be one.
pub(crate) fn add(name: &str, device: Device, spans: impl FnOnce() -> Vec<Span>) {
    let Some(path) = trace_file() else { return };
    let mut trace = TRACE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(open) = &mut *trace else { return };
    if let Err(error) = open.add(name, device, &spans()) {
        tell(path, &error);
        *trace = None;
    }
}

fn tell(path: &Path, error: &io::Error) {
    eprintln!("fulgurite: FULGURITE_TRACE: {}: {error}", path.display());
}

impl<F: Write + Seek> Trace<F> {
    /// Adds a program.
    fn add(&mut self, name: &str, device: Device, spans: &[Span]) -> io::Result<()> {
        let begin = match self.programs {
            0 => BEGIN,
            _ => {
                self.file.seek(SeekFrom::End(-(END.len() as i64)))?;
                ",\n"
            }
        };
        let events = events(name, self.programs, device, spans).join(",\n");
        self.file.write_all(format!("{begin}{events}{END}").as_bytes())?;
        self.programs += 1;
        Ok(())
    }
}

/// The events of a program, which is the thread of this number.
fn events(name: &str, thread: usize, device: Device, spans: &[Span]) -> Vec<String> {
    let process = match device {
        Device::Cpu => 0,
        Device::Cuda(number) => 1 + u64::from(number),
    };
    let label = |kind: &str, text: &str| {
        let text = quoted(text);
        format!(r#"{{"ph":"M","name":"{kind}","pid":{process},"tid":{thread},"args":{{"name":{text}}}}}"#)
    };
    let mut events = vec![label("process_name", &device.to_string()), label("thread_name", name)];
    let mut start = Duration::ZERO;
    for Span { name, time, details } in spans {
        let details: Vec<String> = details.iter().map(|(what, x)| format!("{}:{x}", quoted(what))).collect();
        let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
        events.push(format!(
            r#"{{"ph":"X","name":{},"pid":{process},"tid":{thread},"ts":{:.3},"dur":{:.3},"args":{{{}}}}}"#,
            quoted(name),
            micros(start),
            micros(*time),
            details.join(",")
        ));
        start += *time;
    }
    events
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04x}", c as u32),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_trace_is_json_after_each_program() -> io::Result<()> {
        let span = |name: &str, nanos, details| Span { name: name.into(), time: Duration::from_nanos(nanos), details };
        let mut trace = Trace { file: Cursor::new(Vec::new()), programs: 0 };
        let text = |trace: &Trace<Cursor<Vec<u8>>>| String::from_utf8_lossy(trace.file.get_ref()).into_owned();
        trace.add("empty", Device::Cpu, &[])?;
        let expected = r#"{"displayTimeUnit":"ns","traceEvents":[
{"ph":"M","name":"process_name","pid":0,"tid":0,"args":{"name":"cpu"}},
{"ph":"M","name":"thread_name","pid":0,"tid":0,"args":{"name":"empty"}}
]}
"#;
        assert_eq!(text(&trace), expected);
        let spans = [span("k0 \\", 1500, vec![]), span("k1", 20, vec![("bytes", 64.0), ("share", 0.25)])];
        trace.add("a \"step\"\n", Device::Cuda(1), &spans)?;
        let expected = r#"{"displayTimeUnit":"ns","traceEvents":[
{"ph":"M","name":"process_name","pid":0,"tid":0,"args":{"name":"cpu"}},
{"ph":"M","name":"thread_name","pid":0,"tid":0,"args":{"name":"empty"}},
{"ph":"M","name":"process_name","pid":2,"tid":1,"args":{"name":"cuda:1"}},
{"ph":"M","name":"thread_name","pid":2,"tid":1,"args":{"name":"a \"step\"\u000a"}},
{"ph":"X","name":"k0 \\","pid":2,"tid":1,"ts":0.000,"dur":1.500,"args":{}},
{"ph":"X","name":"k1","pid":2,"tid":1,"ts":1.500,"dur":0.020,"args":{"bytes":64,"share":0.25}}
]}
"#;
        assert_eq!(text(&trace), expected);
        Ok(())
    }
}
