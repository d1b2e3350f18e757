//! A hub and its CDN on two ports of the loopback, with every fault a client must bear, in the order a test asks for.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sha1::Digest as _;

/// Which of the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Hub,
    Cdn,
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) side: Side,
    pub(crate) method: String,
    /// Start of the range asked for.
    pub(crate) from: Option<u64>,
    pub(crate) token: Option<String>,
}

/// How to answer instead of properly, once.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A status, with headers.
    Status(u16, &'static [(&'static str, &'static str)]),
    /// This many bytes, then the connection is closed.
    Cut(usize),
    /// This many bytes, then nothing for six seconds.
    Silence(usize),
    /// All bytes in pieces of 64 kB with this pause between them.
    Slow(Duration),
    /// One byte is another one.
    Damage,
    /// This many bytes too many.
    Longer(usize),
    /// This many bytes too many, in chunks without a length.
    LongerChunked(usize),
    /// The whole file whatever the range.
    NoRange,
}

/// A file of a repository.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) commit: String,
    pub(crate) bytes: Vec<u8>,
    /// On the CDN, with a SHA-256; else on the hub, with a Git blob id.
    pub(crate) large: bool,
}

impl Entry {
    pub(crate) fn large(commit: char, bytes: Vec<u8>) -> Self {
        Self { commit: commit.to_string().repeat(40), bytes, large: true }
    }

    pub(crate) fn checksum(&self) -> String {
        if self.large { sha256(&self.bytes) } else { git_blob(&self.bytes) }
    }
}

#[derive(Default)]
struct State {
    /// By `repo/resolve/revision/file`.
    files: BTreeMap<String, Entry>,
    faults: Vec<(Side, VecDeque<Fault>)>,
    seen: Vec<Seen>,
}

/// The running servers.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) endpoint: String,
    cdn: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listeners = [Side::Hub, Side::Cdn].map(|side| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            (side, listener, address)
        });
        let (endpoint, cdn) = (listeners[0].2.clone(), listeners[1].2.clone());
        let server = Self { endpoint, cdn, state: Arc::default() };
        for (side, listener, _) in listeners {
            let server = server.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let server = server.clone();
                    // A client that goes away is what some tests are about.
                    std::thread::spawn(move || drop(server.serve(side, stream)));
                }
            });
        }
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Adds a file under a branch and under its commit.
    pub(crate) fn put(&self, repo: &str, branch: &str, file: &str, entry: Entry) {
        for revision in [branch.to_owned(), entry.commit.clone()] {
            let path = format!("/{repo}/resolve/{revision}/{file}");
            self.state().files.insert(path, entry.clone());
        }
    }

    /// Queues faults for the next requests to one side.
    pub(crate) fn faults(&self, side: Side, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.push((side, faults.into_iter().collect()));
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// Requests for bytes, with the start of their range.
    pub(crate) fn gets(&self) -> Vec<Option<u64>> {
        self.seen().iter().filter(|s| s.method == "GET").map(|s| s.from).collect()
    }

    fn next_fault(&self, side: Side) -> Option<Fault> {
        let mut state = self.state();
        state
            .faults
            .iter_mut()
            .filter(|(of, _)| *of == side)
            .find_map(|(_, queue)| queue.pop_front())
    }

    fn serve(&self, side: Side, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let mut words = line.split_whitespace();
            let method = words.next().unwrap_or_default().to_owned();
            let path = words.next().unwrap_or_default().to_owned();
            let (mut from, mut token) = (None, None);
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                let Some((name, value)) = header.trim().split_once(':') else { break };
                match name.to_ascii_lowercase().as_str() {
                    "range" => {
                        let start = value.trim().strip_prefix("bytes=").unwrap();
                        from = Some(start.trim_end_matches('-').parse::<u64>().unwrap());
                    }
                    "authorization" => token = Some(value.trim().to_owned()),
                    _ => {}
                }
            }
            let seen = Seen { side, method: method.clone(), from, token };
            self.state().seen.push(seen);
            let head = method == "HEAD";
            let fault = self.next_fault(side);
            if let Some(Fault::Status(status, headers)) = fault {
                write!(stream, "HTTP/1.1 {status} Told\r\nContent-Length: 0\r\n")?;
                for (name, value) in headers {
                    write!(stream, "{name}: {value}\r\n")?;
                }
                write!(stream, "\r\n")?;
                continue;
            }
            // `/cached/..` is where the hub's redirect for small files leads.
            let key = path.split('?').next().unwrap_or_default().trim_start_matches("/cached");
            let Some(entry) = self.state().files.get(key).cloned() else {
                let code = "X-Error-Code: EntryNotFound\r\nX-Error-Message: Entry not found";
                write!(stream, "HTTP/1.1 404 Not Found\r\n{code}\r\nContent-Length: 0\r\n\r\n")?;
                continue;
            };
            let (commit, sum, size) = (&entry.commit, entry.checksum(), entry.bytes.len());
            if side == Side::Hub && entry.large {
                write!(
                    stream,
                    "HTTP/1.1 302 Found\r\nLocation: {}{key}?Signature=secret\r\nX-Repo-Commit: {commit}\r\n\
                     X-Linked-Etag: \"{sum}\"\r\nX-Linked-Size: {size}\r\nETag: \"not-a-checksum\"\r\nContent-Length: 0\r\n\r\n",
                    self.cdn
                )?;
                continue;
            }
            if side == Side::Hub && !path.starts_with("/cached") {
                let location = format!("Location: /cached{key}");
                write!(
                    stream,
                    "HTTP/1.1 307 Temporary\r\n{location}\r\nX-Repo-Commit: {commit}\r\n"
                )?;
                write!(stream, "Content-Length: 0\r\n\r\n")?;
                continue;
            }
            let etag = if entry.large { "cdn-says-something-else".to_owned() } else { sum };
            if head {
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nETag: W/\"{etag}\"\r\nContent-Length: {size}\r\n\r\n"
                )?;
                continue;
            }
            if !send(&mut stream, &entry.bytes, from, &etag, fault)? {
                return Ok(());
            }
        }
    }
}

/// Whether the connection stays open.
fn send(
    stream: &mut TcpStream,
    whole: &[u8],
    from: Option<u64>,
    etag: &str,
    fault: Option<Fault>,
) -> std::io::Result<bool> {
    let from = if matches!(fault, Some(Fault::NoRange)) { None } else { from };
    let start = from.unwrap_or(0) as usize;
    if start > whole.len() || (start == whole.len() && start > 0) {
        write!(stream, "HTTP/1.1 416 Range\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    }
    let mut bytes = whole[start..].to_vec();
    match fault {
        Some(Fault::Damage) => {
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
        }
        Some(Fault::Longer(n) | Fault::LongerChunked(n)) => bytes.extend(std::iter::repeat_n(7, n)),
        _ => {}
    }
    match from {
        Some(start) => {
            let end = whole.len();
            write!(
                stream,
                "HTTP/1.1 206 Partial\r\nContent-Range: bytes {start}-{}/{end}\r\n",
                end - 1
            )?;
        }
        None => write!(stream, "HTTP/1.1 200 OK\r\n")?,
    }
    write!(stream, "ETag: \"{etag}\"\r\n")?;
    if matches!(fault, Some(Fault::LongerChunked(_))) {
        write!(stream, "Transfer-Encoding: chunked\r\n\r\n")?;
        for chunk in bytes.chunks(1 << 16) {
            write!(stream, "{:x}\r\n", chunk.len())?;
            stream.write_all(chunk)?;
            write!(stream, "\r\n")?;
        }
        write!(stream, "0\r\n\r\n")?;
        return Ok(true);
    }
    write!(stream, "Content-Length: {}\r\n\r\n", bytes.len())?;
    match fault {
        Some(Fault::Cut(n)) => {
            stream.write_all(&bytes[..n])?;
            return Ok(false);
        }
        Some(Fault::Silence(n)) => {
            stream.write_all(&bytes[..n])?;
            stream.flush()?;
            std::thread::sleep(Duration::from_secs(6));
            return Ok(false);
        }
        Some(Fault::Slow(pause)) => {
            for piece in bytes.chunks(1 << 16) {
                stream.write_all(piece)?;
                stream.flush()?;
                std::thread::sleep(pause);
            }
        }
        _ => stream.write_all(&bytes)?,
    }
    Ok(true)
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn git_blob(bytes: &[u8]) -> String {
    let mut hasher = sha1::Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
