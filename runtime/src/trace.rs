//! `FULGURITE_TRACE`: a file with the times of all kernels, in the format of Chrome's tracing, which Perfetto reads.
//!
//! Comes in: the kernels of a program with their times, as profiles measure them. Goes out: the file, which is written
//! again for each program. A device is a process of the trace and a program a thread, whose kernels follow each other;
//! when they ran is not in it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fulgurite_jit::array::Device;
use fulgurite_jit::dump::trace_file;

/// A kernel, or several that are timed together.
pub(crate) struct Span {
    /// What is shown.
    pub(crate) name: String,
    /// Its time.
    pub(crate) time: Duration,
    /// What is shown of it when it is selected.
    pub(crate) details: Vec<(&'static str, f64)>,
}

/// A program.
struct Traced {
    name: String,
    device: Device,
    spans: Vec<Span>,
}

static PROGRAMS: Mutex<Vec<Traced>> = Mutex::new(Vec::new());

/// Adds a program to the trace, if there is to be one.
pub(crate) fn add(name: &str, device: Device, spans: impl FnOnce() -> Vec<Span>) {
    let Some(path) = trace_file() else { return };
    let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    programs.push(Traced { name: name.into(), device, spans: spans() });
    if let Err(error) = std::fs::write(path, text(&programs)) {
        eprintln!("fulgurite: FULGURITE_TRACE: {}: {error}", path.display());
    }
}

/// The file.
fn text(programs: &[Traced]) -> String {
    let mut events = Vec::new();
    for (thread, Traced { name, device, spans }) in programs.iter().enumerate() {
        let process = match device {
            Device::Cpu => 0,
            Device::Cuda(number) => 1 + u64::from(*number),
        };
        let mut label = |kind: &str, text: &str| {
            let text = quoted(text);
            events.push(format!(
                r#"{{"ph":"M","name":"{kind}","pid":{process},"tid":{thread},"args":{{"name":{text}}}}}"#
            ));
        };
        label("process_name", &device.to_string());
        label("thread_name", name);
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
    }
    format!("{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n{}\n]}}\n", events.join(",\n"))
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
    use super::*;

    #[test]
    fn a_trace_is_json() {
        let span = |name: &str, nanos, details| Span { name: name.into(), time: Duration::from_nanos(nanos), details };
        let programs = [
            Traced { name: "empty".into(), device: Device::Cpu, spans: vec![] },
            Traced {
                name: "a \"step\"\n".into(),
                device: Device::Cuda(1),
                spans: vec![span("k0 \\", 1500, vec![]), span("k1", 20, vec![("bytes", 64.0), ("share", 0.25)])],
            },
        ];
        let expected = r#"{"displayTimeUnit":"ns","traceEvents":[
{"ph":"M","name":"process_name","pid":0,"tid":0,"args":{"name":"cpu"}},
{"ph":"M","name":"thread_name","pid":0,"tid":0,"args":{"name":"empty"}},
{"ph":"M","name":"process_name","pid":2,"tid":1,"args":{"name":"cuda:1"}},
{"ph":"M","name":"thread_name","pid":2,"tid":1,"args":{"name":"a \"step\"\u000a"}},
{"ph":"X","name":"k0 \\","pid":2,"tid":1,"ts":0.000,"dur":1.500,"args":{}},
{"ph":"X","name":"k1","pid":2,"tid":1,"ts":1.500,"dur":0.020,"args":{"bytes":64,"share":0.25}}
]}
"#;
        assert_eq!(text(&programs), expected);
        assert_eq!(text(&[]), "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n\n]}\n");
    }
}
