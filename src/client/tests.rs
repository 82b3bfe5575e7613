//! Conversations with real listeners, each with one fault, as port probes have them.

use std::io;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::{Domain, SockAddr, Socket, Type};

use super::connection::{Connection, Progress};
use super::rounds::{Rounds, no_descriptor, no_poll};
use super::{Address, Descriptors, Step, Talk};
use crate::check::lasting::Failing;
use crate::check::pattern::Pattern;
use crate::check::port;
use crate::check::port::{ANSWER_LIMIT, End, Fault, Probe, Raw, Rule, Unexpected, judge};
use crate::clock::Reading;

/// So many bytes of a wrong answer are kept.
const KEPT: usize = 100;
/// For what does not wait for it: a machine under load may be slow.
const LONG: Duration = Duration::from_secs(30);
/// For what has to wait for its end.
const SHORT: Duration = Duration::from_secs(1);

fn far() -> Instant {
    Instant::now() + Duration::from_secs(300)
}

fn rule(address: &str) -> Rule {
    Rule::new(Address::parse(address).unwrap())
}

fn expecting(address: &str, pattern: &str) -> Rule {
    Rule {
        expect: Some(Pattern::new(pattern).unwrap()),
        ..rule(address)
    }
}

/// Without how long it took.
fn timeless(raw: Raw) -> Raw {
    match raw {
        Raw::Passed {
            certificate_ends, ..
        } => Raw::Passed {
            certificate_ends,
            took: Duration::ZERO,
        },
        other => other,
    }
}

fn look(probes: &[(&Rule, Duration)], run_ends: Instant) -> Vec<Raw> {
    let raws = port::look(probes, run_ends).into_iter();
    raws.map(timeless).collect()
}

fn ask(rule: &Rule, timeout: Duration) -> Raw {
    look(&[(rule, timeout)], far()).remove(0)
}

fn sentence(rule: &Rule, raw: &Raw) -> String {
    let judged = judge(rule, raw, &Failing::default(), &Reading::take());
    let [problem] = judged.findings.as_slice() else {
        panic!("{judged:?}");
    };
    format!("{}: {}", problem.code, problem.message)
}

fn fault(raw: Raw) -> Fault {
    match raw {
        Raw::Failed(mut failures) if failures.len() == 1 => failures.remove(0).fault,
        other => panic!("{other:?}"),
    }
}

fn passed() -> Raw {
    Raw::Passed {
        certificate_ends: None,
        took: Duration::ZERO,
    }
}

/// A server that does this with one connection.
fn serve(act: impl FnOnce(TcpStream) + Send + 'static) -> String {
    serve_at(Ipv4Addr::LOCALHOST, 0, act)
}

fn serve_at(ip: Ipv4Addr, port: u16, act: impl FnOnce(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind((ip, port)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || act(listener.accept().unwrap().0));
    address
}

/// A port that is taken and that nobody listens on.
fn refusing(ip: Ipv4Addr) -> (Socket, SocketAddr) {
    refusing_at(ip, 0).unwrap()
}

/// The same with this port, unless somebody has it.
fn refusing_at(ip: Ipv4Addr, port: u16) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SockAddr::from(SocketAddr::from((ip, port))))?;
    let address = socket.local_addr()?.as_socket().unwrap();
    Ok((socket, address))
}

/// A listener, and on its port of two other addresses nobody who listens.
fn one_of_three() -> (TcpListener, [(Socket, SocketAddr); 2]) {
    // what runs beside this may have a port of one of them
    for _ in 0..100 {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let first = refusing_at(Ipv4Addr::LOCALHOST, port);
        let second = refusing_at(Ipv4Addr::new(127, 0, 0, 3), port);
        if let (Ok(first), Ok(second)) = (first, second) {
            return (listener, [first, second]);
        }
    }
    panic!("no port is free at all three addresses");
}

/// A listener that accepts nothing, with its queue full; and what fills it.
fn full(ip: Ipv4Addr) -> (Socket, Vec<Socket>, SocketAddr) {
    let (listener, address) = refusing(ip);
    listener.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let is_taken = socket.connect_timeout(&SockAddr::from(address), Duration::from_millis(200));
        waiting.push(socket);
        if is_taken.is_err() {
            return (listener, waiting, address);
        }
        assert!(waiting.len() < 100, "the queue has no end");
    }
}

/// Waits until the other side has gone.
fn drain(mut stream: &TcpStream) {
    let mut bytes = [0; 1024];
    while matches!(stream.read(&mut bytes), Ok(length) if length > 0) {}
}

/// A look in which names are known and nobody resolves any.
fn look_knowing(rule: &Rule, timeout: Duration, addresses: Option<&[SocketAddr]>) -> Raw {
    let descriptors = Descriptors::new(100);
    let mut look = rounds(&[(rule, timeout)], &descriptors);
    look.helpers = None;
    for known in look.names.values_mut() {
        *known = addresses.map(|addresses| Ok(addresses.to_vec()));
    }
    raws(look).remove(0)
}

fn rounds<'a>(
    probes: &[(&'a Rule, Duration)],
    descriptors: &'a Descriptors,
) -> Rounds<'a, Probe<'a>> {
    let talks = probes
        .iter()
        .map(|&(rule, timeout)| (Probe::new(rule), timeout));
    Rounds::new(talks.collect(), far(), descriptors)
}

fn raws(rounds: Rounds<'_, Probe<'_>>) -> Vec<Raw> {
    rounds
        .run()
        .into_iter()
        .map(|(_, outcome)| timeless(outcome.into()))
        .collect()
}

#[test]
fn an_open_port_passes_and_a_refused_one_fails_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    assert_eq!(ask(&rule(&address), LONG), passed());
    let (_kept, address) = refusing(Ipv4Addr::LOCALHOST);
    let refused = rule(&address.to_string());
    let began = Instant::now();
    let raw = ask(&refused, LONG);
    assert!(began.elapsed() < LONG);
    assert_eq!(
        sentence(&refused, &raw),
        format!("port_closed: {address} refused the connection: nothing listens there")
    );
    assert_eq!(fault(raw), Fault::Refused);
    assert!(look(&[], far()).is_empty());
}

#[test]
fn an_ipv6_address_is_asked_too() {
    // not each machine has one
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return;
    };
    let address = listener.local_addr().unwrap().to_string();
    assert_eq!(ask(&rule(&address), LONG), passed());
}

#[test]
fn an_answer_is_waited_for_and_matched() {
    let ping = |address: &str| Rule {
        send: Some(b"PING\r\n".to_vec()),
        ..expecting(address, r"^\+PONG\r\n")
    };
    let answer = |parts: &'static [&'static str]| {
        serve(move |mut stream| {
            let mut command = [0; 6];
            stream.read_exact(&mut command).unwrap();
            assert_eq!(&command, b"PING\r\n");
            stream.set_nodelay(true).unwrap();
            for part in parts {
                stream.write_all(part.as_bytes()).unwrap();
            }
            drain(&stream);
        })
    };
    assert_eq!(ask(&ping(&answer(&["+PONG\r\n"])), LONG), passed());
    let pieces = &["+", "P", "O", "N", "G", "\r", "\n"];
    assert_eq!(ask(&ping(&answer(pieces)), LONG), passed());
    let wrong = ping(&answer(&["-NOAUTH \x1b[31m\r\n"]));
    let raw = ask(&wrong, SHORT);
    assert_eq!(
        sentence(&wrong, &raw),
        format!(
            "port_unexpected: {} answered `-NOAUTH \\x1b[31m\\x0d\\x0a` (15 bytes, and no more within 1s), \
             which does not match `^\\+PONG\\r\\n`",
            wrong.address
        )
    );
    // without `expect` it is enough that all is taken
    let sent = Rule {
        expect: None,
        ..ping(&answer(&[]))
    };
    assert_eq!(ask(&sent, LONG), passed());
}

#[test]
fn a_large_send_is_taken_in_pieces() {
    let size = 8 << 20;
    let (send, received) = channel();
    let address = serve(move |mut stream| {
        let mut all = vec![0; size];
        // answered and sent at the same time
        stream.write_all(&vec![b'.'; 1000]).unwrap();
        stream.read_exact(&mut all).unwrap();
        send.send(all.iter().all(|&byte| byte == b'x')).unwrap();
        stream.write_all(b"done").unwrap();
        drain(&stream);
    });
    let rule = Rule {
        send: Some(vec![b'x'; size]),
        ..expecting(&address, "done$")
    };
    assert_eq!(ask(&rule, LONG), passed());
    assert!(received.recv_timeout(LONG).unwrap());
}

#[test]
fn silence_is_a_failure_and_says_what_was_waited_for() {
    let (kept, _waiting, address) = full(Ipv4Addr::LOCALHOST);
    let closed = rule(&address.to_string());
    let raw = ask(&closed, SHORT);
    assert_eq!(
        sentence(&closed, &raw),
        format!("port_closed: {address} timed out after 1s: no connection was accepted")
    );
    drop(kept);
    // the kernel accepts for a program that does not
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let frozen = expecting(&listener.local_addr().unwrap().to_string(), "x");
    let raw = ask(&frozen, SHORT);
    assert_eq!(
        sentence(&frozen, &raw),
        format!(
            "port_closed: {} timed out after 1s: it accepted the connection and sent nothing",
            frozen.address
        )
    );
    let unread = Rule {
        expect: None,
        send: Some(vec![0; 32 << 20]),
        ..frozen
    };
    assert_eq!(
        fault(ask(&unread, SHORT)),
        Fault::TimedOut {
            step: Step::Answer,
            after: SHORT
        }
    );
}

#[test]
fn one_that_answers_byte_by_byte_is_cut_off_at_the_deadline() {
    let address = serve(|mut stream| {
        stream.set_nodelay(true).unwrap();
        let (_never, tick): (_, Receiver<()>) = channel();
        while stream.write_all(b"x").is_ok() {
            let _ = tick.recv_timeout(Duration::from_millis(20));
        }
    });
    let rule = expecting(&address, "never");
    let Fault::Answer(Unexpected { first, length, end }) = fault(ask(&rule, SHORT)) else {
        panic!("an answer was expected");
    };
    assert_eq!(end, End::Timeout(SHORT));
    assert!(length > 0 && length < 1000, "{length}");
    assert!(first.iter().all(|&byte| byte == b'x'));
}

#[test]
fn a_connection_that_is_reset_or_closed_is_told_apart() {
    let reset = serve(|mut stream| {
        // once it has sent something it surely is connected
        stream.read_exact(&mut [0]).unwrap();
        Socket::from(stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    });
    let reset = Rule {
        send: Some(b"x".to_vec()),
        ..expecting(&reset, "x")
    };
    let raw = ask(&reset, LONG);
    assert!(
        sentence(&reset, &raw).ends_with("reset the connection before it had answered"),
        "{raw:?}"
    );
    let closed = expecting(&serve(drop), "x");
    let raw = ask(&closed, LONG);
    assert_eq!(
        sentence(&closed, &raw),
        format!(
            "port_unexpected: {} closed the connection without an answer; expected `x`",
            closed.address
        )
    );
    // half-closed: it says what it has to say, and listens on
    let say = |text: &'static str| {
        serve(move |mut stream| {
            stream.write_all(text.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            drain(&stream);
        })
    };
    assert_eq!(ask(&expecting(&say("well"), "^well$"), LONG), passed());
    assert_eq!(
        fault(ask(&expecting(&say("ill"), "^well$"), LONG)),
        Fault::Answer(Unexpected {
            first: b"ill".to_vec(),
            length: 3,
            end: End::Closed
        })
    );
    // answered and closed before it took what is sent
    let rude = Rule {
        send: Some(vec![0; 1 << 20]),
        ..expecting(&say("well"), "^well$")
    };
    assert_eq!(ask(&rude, LONG), passed());
}

#[test]
fn the_first_64_kib_are_all_that_is_read() {
    let flood = |before: usize| {
        serve(move |mut stream| {
            let _ = stream.write_all(&vec![b'a'; before]);
            let _ = stream.write_all(b"PONG");
            while stream.write_all(&[b'b'; 4096]).is_ok() {}
        })
    };
    assert_eq!(
        ask(&expecting(&flood(ANSWER_LIMIT - 4), "PONG"), LONG),
        passed()
    );
    assert_eq!(
        fault(ask(&expecting(&flood(ANSWER_LIMIT - 3), "PONG"), LONG)),
        Fault::Answer(Unexpected {
            first: vec![b'a'; KEPT],
            length: ANSWER_LIMIT,
            end: End::Limit
        })
    );
}

#[test]
fn unix_sockets_are_asked_and_their_files_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| rule(&format!("unix:{}/{name}", directory.path().display()));
    let path = |name: &str| directory.path().join(name);
    let _listener = UnixListener::bind(path("open")).unwrap();
    assert_eq!(ask(&at("open"), LONG), passed());
    drop(UnixListener::bind(path("stale")).unwrap());
    let _datagram = UnixDatagram::bind(path("datagram")).unwrap();
    std::fs::write(path("file"), "").unwrap();
    for (name, code, ending) in [
        (
            "missing",
            "port_closed",
            "is closed: there is no such socket",
        ),
        (
            "file",
            "port_closed",
            "is closed: the file there is not a socket",
        ),
        (
            "stale",
            "port_closed",
            "refused the connection: the socket is there, and nothing listens on it",
        ),
        (
            "datagram",
            "probe_unreadable",
            "is a socket of another type (datagram), and no stream can be opened to it",
        ),
    ] {
        let rule = at(name);
        let raw = ask(&rule, LONG);
        assert_eq!(
            sentence(&rule, &raw),
            format!("{code}: {} {ending}", rule.address)
        );
    }
    let answering = UnixListener::bind(path("answering")).unwrap();
    thread::spawn(move || answering.accept().unwrap().0.write_all(b"hello"));
    let hello = Rule {
        expect: Some(Pattern::new("hello").unwrap()),
        ..at("answering")
    };
    assert_eq!(ask(&hello, LONG), passed());
}

#[test]
fn a_unix_socket_with_a_full_queue_is_tried_until_it_has_room() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.sock");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let fill = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
            .connect(&SockAddr::unix(&path).unwrap())
            .map(|()| socket)
    };
    let mut waiting = Vec::new();
    while let Ok(socket) = fill() {
        waiting.push(socket);
        assert!(waiting.len() < 100, "the queue has no end");
    }
    let rule = rule(&format!("unix:{}", path.display()));
    let raw = ask(&rule, SHORT);
    assert!(
        sentence(&rule, &raw).ends_with("timed out after 1s: no connection was accepted"),
        "{raw:?}"
    );
    let accepting = thread::spawn(move || while listener.accept().is_ok() {});
    assert_eq!(ask(&rule, LONG), passed());
    assert!(!accepting.is_finished());
}

#[test]
fn no_permission_for_a_unix_socket_is_unknown() {
    // root may everything
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let rule = rule(&format!("unix:{}", path.display()));
    let raw = ask(&rule, LONG);
    assert!(
        sentence(&rule, &raw).starts_with("probe_unreadable: "),
        "{raw:?}"
    );
}

#[test]
fn a_name_passes_where_one_of_its_addresses_does() {
    let (listener, [(_first, refused), (_second, other)]) = one_of_three();
    let well = listener.local_addr().unwrap();
    let named = |pattern: Option<&str>| Rule {
        expect: pattern.map(|pattern| Pattern::new(pattern).unwrap()),
        ..rule(&format!("two.example:{}", well.port()))
    };
    // refused by the first
    assert_eq!(
        look_knowing(&named(None), LONG, Some(&[refused, well])),
        passed()
    );
    // both refuse
    let raw = look_knowing(&named(None), LONG, Some(&[refused, other]));
    assert_eq!(
        sentence(&named(None), &raw),
        format!(
            "port_closed: two.example:{} failed at both of its addresses: \
             127.0.0.1 refused the connection: nothing listens there; \
             127.0.0.3 refused the connection: nothing listens there",
            well.port()
        )
    );
    let raw = look_knowing(&named(None), LONG, Some(&[other]));
    assert!(
        sentence(&named(None), &raw).contains(" (127.0.0.3) refused the connection"),
        "{raw:?}"
    );
}

#[test]
fn a_silent_first_address_does_not_use_up_the_time_of_the_next() {
    let (_listener, _waiting, silent) = full(Ipv4Addr::LOCALHOST);
    let second = Ipv4Addr::new(127, 0, 0, 2);
    let _well = TcpListener::bind((second, silent.port())).unwrap();
    let named = rule(&format!("two.example:{}", silent.port()));
    let well = SocketAddr::from((second, silent.port()));
    let began = Instant::now();
    assert_eq!(look_knowing(&named, LONG, Some(&[silent, well])), passed());
    assert!(began.elapsed() < LONG / 2);
    // connected, and then silent
    let frozen = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = frozen.local_addr().unwrap().port();
    serve_at(second, port, |mut stream| {
        stream.write_all(b"hello").unwrap();
        drain(&stream);
    });
    let greeted = expecting(&format!("two.example:{port}"), "hello");
    let places = [frozen.local_addr().unwrap(), (second, port).into()];
    let timeout = Duration::from_secs(4);
    assert_eq!(look_knowing(&greeted, timeout, Some(&places)), passed());
}

#[test]
fn what_the_resolver_says_is_unknown_and_so_is_its_silence() {
    let invalid = rule("no-such-name.invalid:80");
    let raw = ask(&invalid, Duration::from_secs(5));
    let said = sentence(&invalid, &raw);
    assert!(
        said.starts_with("probe_unreadable: no-such-name.invalid:80 cannot be resolved: "),
        "{said}"
    );
    let raw = look_knowing(&invalid, Duration::from_millis(100), None);
    assert_eq!(
        raw,
        Raw::NotAsked("cannot be resolved: the resolver did not answer within 100ms".to_owned())
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(ask(&rule(&format!("localhost:{port}")), LONG), passed());
}

#[test]
fn what_the_run_has_no_time_for_is_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = expecting(&listener.local_addr().unwrap().to_string(), "x");
    let soon = Instant::now() + Duration::from_millis(100);
    assert_eq!(
        look(&[(&silent, LONG)], soon),
        [Raw::NotAsked(
            "was not asked for 30s: the time of the run was over".to_owned()
        )]
    );
}

#[test]
fn silence_is_unknown_where_this_side_was_not_there_to_hear() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = expecting(&listener.local_addr().unwrap().to_string(), "x");
    let descriptors = Descriptors::new(100);
    let mut look = rounds(&[(&silent, SHORT)], &descriptors);
    look.stalled = Duration::from_millis(600);
    let said = sentence(&silent, &raws(look)[0]);
    assert!(
        said.starts_with("probe_unreadable: ") && said.contains("this host was too busy to ask: "),
        "{said}"
    );
}

#[test]
fn time_that_this_side_took_is_not_held_against_the_other() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let late = expecting(&format!("late.example:{}", address.port()), "x");
    let descriptors = Descriptors::new(100);
    let mut look = rounds(&[(&late, SHORT)], &descriptors);
    look.helpers = None;
    while look.began.elapsed() < SHORT * 3 / 5 {
        look.round();
    }
    for known in look.names.values_mut() {
        *known = Some(Ok(vec![address]));
    }
    let said = sentence(&late, &raws(look)[0]);
    assert!(
        said.contains("did not answer, but its name or certificates took the first "),
        "{said}"
    );
    // nobody reads the certificates
    let tls = Rule {
        tls: true,
        ..rule(&address.to_string())
    };
    let unread = |no_helper: Option<String>| {
        let mut look = rounds(&[(&tls, Duration::from_millis(100))], &descriptors);
        look.helpers = None;
        look.no_helper = no_helper;
        sentence(&tls, &raws(look)[0])
    };
    assert!(unread(None).ends_with(
        "cannot be asked: the certificates of authorities could not be read within 100ms"
    ));
    let none = io::Error::from_raw_os_error(libc::EMFILE);
    let said = unread(Some(no_descriptor(&none)));
    assert!(
        said.contains(
            "cannot be asked: there is no descriptor for it: Too many open files (os error 24) (ulimit -n"
        ),
        "{said}"
    );
    assert!(
        no_poll(Errno::ENOMEM).starts_with("cannot be asked: the system cannot wait for sockets: ")
    );
}

#[test]
fn names_that_hang_hold_up_no_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let unix = rule(&format!("unix:{}", path.display()));
    let names: Vec<Rule> = (0..200)
        .map(|n| rule(&format!("no-such-name-{n}.invalid:80")))
        .collect();
    let mut probes: Vec<_> = names.iter().map(|name| (name, SHORT)).collect();
    probes.push((&unix, LONG));
    let raws = look(&probes, far());
    assert_eq!(raws[200], passed());
    assert!(
        raws[..200]
            .iter()
            .all(|raw| matches!(raw, Raw::NotAsked(_)))
    );
}

#[test]
fn a_connection_with_itself_is_none() {
    let (socket, address) = refusing(Ipv4Addr::LOCALHOST);
    socket.connect(&SockAddr::from(address)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let rule = rule(&address.to_string());
    let now = Instant::now();
    let probe = Probe::new(&rule);
    let Ok(mut connection) = Connection::of_unix(probe.target(), None, probe.begin(), socket, now)
    else {
        panic!("it is connected");
    };
    assert!(matches!(
        connection.drive(None, now),
        Progress::Failed(Fault::Refused)
    ));
}

#[test]
fn a_thousand_silent_addresses_take_as_long_as_one() {
    let (listener, address) = refusing(Ipv4Addr::LOCALHOST);
    listener.listen(2000).unwrap();
    let rule = expecting(&address.to_string(), "x");
    let timeout = Duration::from_secs(2);
    let probes = vec![(&rule, timeout); 1000];
    let began = Instant::now();
    let raws = look(&probes, far());
    let took = began.elapsed();
    assert!(took < 3 * timeout, "{took:?}");
    let failed = raws
        .iter()
        .filter(|raw| matches!(raw, Raw::Failed(_)))
        .count();
    // where a process may have no more of them, the others are unknown; tests beside this one have some as well
    assert!(
        failed >= Descriptors::of_process().most().min(1000) / 2,
        "{failed}"
    );
    for raw in &raws {
        let is_known = match raw {
            Raw::Failed(_) => true,
            Raw::NotAsked(why) => why.contains("no descriptor was free"),
            Raw::Passed { .. } => false,
        };
        assert!(is_known, "{raw:?}");
    }
    assert_eq!(raws.len(), 1000);
}

#[test]
fn probes_share_what_descriptors_there_are() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let open = rule(&address);
    let few = |probes: &[(&Rule, Duration)], most| {
        let descriptors = Descriptors::new(most);
        raws(rounds(probes, &descriptors))
    };
    assert_eq!(few(&vec![(&open, LONG); 50], 2), vec![passed(); 50]);
    // the only descriptor is taken until the end
    let silent = expecting(&address, "x");
    let raws = few(&[(&silent, SHORT), (&open, SHORT)], 1);
    assert!(matches!(raws[0], Raw::Failed(_)), "{raws:?}");
    assert_eq!(
        sentence(&open, &raws[1]),
        format!(
            "probe_unreadable: {address} cannot be asked: no descriptor was free within 1s (ulimit -n, LimitNOFILE=)"
        )
    );
    // one that had little time left does not tell whether the other side is silent
    let raws = few(&[(&silent, SHORT), (&silent, SHORT * 3 / 2)], 1);
    let said = sentence(&silent, &raws[1]);
    assert!(
        said.contains("did not answer, but no descriptor was free for the first 1")
            && said.ends_with("of 1.5s"),
        "{said}"
    );
}

/// An authority, and certificates of it: good, other, expired, alone, and one that ends in a week.
fn authority(directory: &Path) {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/real_smtp/certificates.sh"
    );
    let soon = "sh \"$0\" . && cp good.key soon.key && openssl x509 -req -in good.csr -extfile good.ext \
        -CA ca.pem -CAkey ca.key -CAcreateserial -days 7 -out soon.pem";
    let output = Command::new("sh")
        .args(["-c", soon, script])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn serve_tls(directory: &Path, name: &str, answer: &'static [u8]) -> String {
    serve_tls_with(directory, name, name, answer)
}

/// A server that shows a certificate of one name, and signs with the key of another.
fn serve_tls_with(directory: &Path, name: &str, key: &str, answer: &'static [u8]) -> String {
    let file = |name: &str, kind: &str| directory.join(format!("{name}.{kind}"));
    let chain = CertificateDer::pem_file_iter(file(name, "pem"))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(file(key, "key")).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let shown = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(chain, key));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    let config = Arc::new(config);
    serve(move |stream| {
        let session = ServerConnection::new(config).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        let mut command = [0; 4];
        // a client that does not trust it hangs up
        if stream.read_exact(&mut command).is_ok() {
            let _ = stream.write_all(answer);
            let _ = stream.flush();
        }
        drain(&stream.sock);
    })
}

#[test]
#[ignore = "needs openssl"]
fn certificates_are_verified_and_their_end_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    authority(directory.path());
    let tls = |address: &str| Rule {
        tls: true,
        ca_file: Some(directory.path().join("ca.pem")),
        ..rule(address)
    };
    let serve = |name| serve_tls(directory.path(), name, b"+PONG");
    assert_eq!(ask(&tls(&serve("good")), LONG), passed());
    let by_name = Rule {
        host: Some("localhost".to_owned()),
        send: Some(b"PING".to_vec()),
        expect: Some(Pattern::new(r"^\+PONG$").unwrap()),
        ..tls(&serve("good"))
    };
    assert_eq!(ask(&by_name, LONG), passed());

    let soon = tls(&serve("soon"));
    let raw = ask(&soon, LONG);
    let said = sentence(&soon, &raw);
    assert!(
        said.starts_with(&format!(
            "certificate_expiring: the certificate of {} ends in 6d 23h, at ",
            soon.address
        )),
        "{said}"
    );

    let refused = [
        ("expired", "ended at 2020-01-02T00:00:00Z; renew it"),
        (
            "other",
            "is not valid for the name `127.0.0.1` (it is for other.example)",
        ),
        (
            "alone",
            "comes from an authority that is not trusted here; set ca_file",
        ),
    ];
    for (name, part) in refused {
        let rule = tls(&serve(name));
        let said = sentence(&rule, &ask(&rule, LONG));
        let beginning = format!(
            "certificate_invalid: {} answers, but its certificate {part}",
            rule.address
        );
        assert!(said.starts_with(&beginning), "{said}");
    }
    let untrusted = Rule {
        ca_file: Some(directory.path().join("none.pem")),
        ..tls("127.0.0.1:1")
    };
    let said = sentence(&untrusted, &ask(&untrusted, LONG));
    assert!(
        said.starts_with("probe_unreadable: ") && said.contains("none.pem cannot be read"),
        "{said}"
    );
}

#[test]
#[ignore = "needs openssl"]
fn the_very_certificate_of_ca_file_is_trusted_where_it_signed_itself() {
    const MAKE: &str = "set -eu; sh \"$0\" .
        make() { # NAME SAN DAYS
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=own -days \"$3\" \
                -addext \"subjectAltName=$2\" -keyout \"$1.key\" -out \"$1.pem\"
        }
        for name in own twin; do make $name DNS:localhost,IP:127.0.0.1 3650; done
        make soon DNS:localhost,IP:127.0.0.1 7
        make elsewhere DNS:other.example 3650
        openssl x509 -in own.pem -noout -text | grep CA:TRUE
        openssl ecparam -name prime256v1 -genkey -noout -out old.key
        openssl req -new -key old.key -subj /CN=own -out old.csr
        printf 'basicConstraints=CA:TRUE\nsubjectAltName=IP:127.0.0.1\n' >old.ext
        openssl ca -batch -notext -config ca.conf -selfsign -keyfile old.key -extfile old.ext \
            -startdate 20200101000000Z -enddate 20200102000000Z -in old.csr -out old.pem";
    let directory = tempfile::tempdir().unwrap();
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/real_smtp/certificates.sh"
    );
    let output = Command::new("sh")
        .args(["-c", MAKE, script])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let asked = |address: &str, ca: &str| {
        let rule = Rule {
            tls: true,
            ca_file: Some(directory.path().join(format!("{ca}.pem"))),
            ..rule(address)
        };
        let raw = ask(&rule, LONG);
        (rule, raw)
    };
    let said = |(rule, raw): (Rule, Raw)| sentence(&rule, &raw);
    let serve = |name| serve_tls(directory.path(), name, b"+PONG");
    for name in ["own", "alone"] {
        assert_eq!(asked(&serve(name), name).1, passed(), "{name}");
    }
    let soon = said(asked(&serve("soon"), "soon"));
    assert!(
        soon.starts_with("certificate_expiring: ") && soon.contains(" ends in 6d 23h"),
        "{soon}"
    );
    // another key of the same name, another name, over, not in ca_file, and an authority's that others are signed by
    for (name, ca, part) in [
        ("twin", "own", "is one of an authority (CA:TRUE) and not"),
        ("own", "ca", "is one of an authority (CA:TRUE) and not"),
        ("ca", "ca", "is not valid for the name `127.0.0.1`"),
        (
            "elsewhere",
            "elsewhere",
            "is not valid for the name `127.0.0.1` (it is for other.example)",
        ),
        ("old", "old", "ended at 2020-01-02T00:00:00Z; renew it"),
    ] {
        let said = said(asked(&serve(name), ca));
        let is_said = said.starts_with("certificate_invalid: ")
            && said.contains(&format!("but its certificate {part}"));
        assert!(is_said, "{name}: {said}");
    }
    // whoever shows it without its key
    let thief = serve_tls_with(directory.path(), "own", "twin", b"+PONG");
    let (_, raw) = asked(&thief, "own");
    assert!(matches!(raw, Raw::Failed(_)), "{raw:?}");
}

#[test]
#[ignore = "needs openssl"]
fn faults_of_a_tls_session_are_told_apart() {
    static LONG_ANSWER: [u8; 100_000] = [b'a'; 100_000];
    let directory = tempfile::tempdir().unwrap();
    authority(directory.path());
    let tls = |address: &str| Rule {
        tls: true,
        send: Some(b"PING".to_vec()),
        expect: Some(Pattern::new("never").unwrap()),
        ca_file: Some(directory.path().join("ca.pem")),
        ..rule(address)
    };
    let flood = tls(&serve_tls(directory.path(), "good", &LONG_ANSWER));
    assert_eq!(
        fault(ask(&flood, LONG)),
        Fault::Answer(Unexpected {
            first: vec![b'a'; KEPT],
            length: ANSWER_LIMIT,
            end: End::Limit
        })
    );
    let plain = tls(&serve(|mut stream| {
        stream.write_all(b"220 hello\r\n").unwrap();
        drain(&stream);
    }));
    assert_eq!(
        fault(ask(&plain, LONG)),
        Fault::NoTls("it does not speak TLS".to_owned())
    );
    let mute = tls(&serve(|stream| drain(&stream)));
    assert_eq!(
        fault(ask(&mute, Duration::from_secs(2))),
        Fault::TimedOut {
            step: Step::Handshake,
            after: Duration::from_secs(2)
        }
    );
    let gone = tls(&serve(|mut stream| {
        let mut bytes = [0; 4096];
        assert!(stream.read(&mut bytes).unwrap() > 0);
    }));
    let fault = fault(ask(&gone, LONG));
    assert!(
        matches!(
            fault,
            Fault::HungUp(Step::Handshake) | Fault::Reset(Step::Handshake)
        ),
        "{fault:?}"
    );
}
