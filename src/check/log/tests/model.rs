//! The log reader against a slow, obviously right model of what it has to judge.
//!
//! The names of the reader come from the module above, so that the fuzzer, which sees only what is public, can play
//! the same game as the property test.

use super::*;

/// The time that all begins at.
const BEGIN: TimeDelta = TimeDelta::seconds(1_795_348_800);

/// A log in a directory of its own, looked at again and again. Each step of the log takes a second.
pub(crate) struct Scene {
    pub(crate) dir: TempDir,
    pub(crate) now: DateTime<Utc>,
    /// By so much the wall clock was set since the beginning.
    pub(crate) set_by: TimeDelta,
    pub(crate) rule: Rule,
    pub(crate) position: Option<LogPosition>,
    pub(crate) author: Author,
    pub(crate) jumped_at: Option<DateTime<Utc>>,
    pub(crate) shown: bool,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rule = Rule {
            shown: "logs/app.log".to_owned(),
            path: dir.path().join("app.log"),
            max_age: None,
            journal: false,
            unit: None,
            container: false,
            of_container: None,
            lines: 100,
            expect: Vec::new(),
            forbid: Vec::new(),
            stamp: None,
            severity: Severity::Critical,
        };
        Self {
            dir,
            now: DateTime::UNIX_EPOCH + BEGIN,
            set_by: TimeDelta::zero(),
            rule,
            position: None,
            author: Author::Present,
            jumped_at: None,
            shown: true,
        }
    }

    /// One that forbids `ERROR`.
    pub(crate) fn forbidding() -> Self {
        let mut scene = Self::new();
        scene.rule.forbid = vec![forbid("ERROR")];
        scene
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn pass(&mut self, secs: i64) {
        self.now += TimeDelta::seconds(secs);
    }

    pub(crate) fn set_clock(&mut self, secs: i64) {
        let by = TimeDelta::seconds(secs);
        self.now += by;
        self.set_by += by;
    }

    /// Gives a file the time of now, which goes on by a second.
    pub(crate) fn dated(&mut self, name: &str) {
        let file = File::open(self.at(name)).unwrap();
        file.set_modified(SystemTime::from(self.now)).unwrap();
        self.pass(1);
    }

    pub(crate) fn append(&mut self, name: &str, bytes: impl AsRef<[u8]>) {
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(self.at(name))
            .unwrap();
        file.write_all(bytes.as_ref()).unwrap();
        self.dated(name);
    }

    pub(crate) fn log(&mut self, bytes: impl AsRef<[u8]>) {
        self.append("app.log", bytes);
    }

    /// `.1` becomes `.2`, and so on.
    pub(crate) fn shift(&self) {
        for i in (1..30).rev() {
            let from = self.at(&format!("app.log.{i}"));
            if from.exists() {
                fs::rename(from, self.at(&format!("app.log.{}", i + 1))).unwrap();
            }
        }
    }

    pub(crate) fn rotate(&mut self) {
        self.shift();
        fs::rename(self.at("app.log"), self.at("app.log.1")).unwrap();
        File::create(self.at("app.log")).unwrap();
        self.dated("app.log");
    }

    pub(crate) fn copytruncate(&mut self) {
        self.shift();
        fs::copy(self.at("app.log"), self.at("app.log.1")).unwrap();
        self.dated("app.log.1");
        self.truncate();
    }

    pub(crate) fn truncate(&mut self) {
        let file = File::options()
            .write(true)
            .open(self.at("app.log"))
            .unwrap();
        file.set_len(0).unwrap();
        self.dated("app.log");
    }

    pub(crate) fn reading(&self) -> Reading {
        // the machine was up for months when it began
        let up = self.now - DateTime::UNIX_EPOCH - BEGIN - self.set_by + TimeDelta::days(100);
        let boot_ms = u64::try_from(up.num_milliseconds()).unwrap();
        Reading {
            wall: self.now,
            boot_ms,
            awake_ms: boot_ms,
            boot_id: "b".into(),
        }
    }

    /// A run: the mark goes through JSON, as it does in the state.
    pub(crate) fn look(&mut self) -> Seen {
        let now = self.reading();
        let context = Context {
            now: &now,
            jumped_at: self.jumped_at,
            author: self.author,
            shown: self.shown,
        };
        let seen = look(&self.rule, self.position.as_ref(), context);
        if let Some(position) = &seen.state {
            let text = serde_json::to_string(position).unwrap();
            self.position = Some(serde_json::from_str(&text).unwrap());
            assert_eq!(self.position.as_ref(), Some(position));
        }
        seen
    }

    pub(crate) fn position_at_end(&mut self) {
        self.position = position_at_end(&self.rule, self.position.as_ref());
    }
}

pub(crate) fn forbid(pattern: &str) -> Forbid {
    Forbid {
        pattern: Pattern::new(pattern).unwrap(),
        at_most: 0,
        except: Vec::new(),
    }
}

/// What stands behind a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Nothing,
    Lf,
    CrLf,
    Cr,
}

impl End {
    fn text(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Lf => "\n",
            Self::CrLf => "\r\n",
            Self::Cr => "\r",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Something unique, with so much beside it, and perhaps a line end.
    Append(usize, End),
    /// A line end alone: after a CR it is a part of the same one.
    Feed,
    Rename,
    Copytruncate,
    /// To the file that was renamed last, as long as nothing is in the new one. Not to one that was empty all the time that
    /// it was at the path, between two runs: nothing says then that it was the log, and hardly anybody has it open.
    Late(End),
    Run,
    MarkEnd,
}

/// A file as the model has it: pieces of text by number, where lines end, and what was judged.
#[derive(Clone, Debug, Default)]
struct Text {
    /// Lines of numbers; the last one is not ended.
    lines: Vec<Vec<(usize, usize)>>,
    /// The last character is a CR.
    after_cr: bool,
    /// So many lines were judged.
    judged: usize,
    /// The last line is done with: what is added to it is not judged.
    spent: bool,
    /// What the last line has counted for already, when it had no end.
    counted: Vec<usize>,
    /// The unfinished line at the last run, and its pieces.
    seen: (usize, usize),
}

impl Text {
    fn new() -> Self {
        Self {
            lines: vec![Vec::new()],
            ..Self::default()
        }
    }

    fn add(&mut self, number: usize, pad: usize, end: End) {
        self.lines.last_mut().unwrap().push((number, pad));
        if end != End::Nothing {
            self.lines.push(Vec::new());
        }
        self.after_cr = end == End::Cr;
    }

    fn feed(&mut self) {
        if !self.after_cr {
            self.lines.push(Vec::new());
        }
        self.after_cr = false;
    }

    fn is_empty(&self) -> bool {
        self.lines == [Vec::new()]
    }

    /// The numbers in what is to be judged now.
    fn judge(&mut self, rotated: bool, into: &mut BTreeMap<usize, u64>) {
        let last = self.lines.len() - 1;
        for at in self.judged..=last {
            let line = &self.lines[at];
            let mut is_long = false;
            if at == last {
                is_long = line.iter().map(|(_, pad)| pad + 6).sum::<usize>() > LINE + 64;
                let aged = self.seen == (at, line.len());
                let due = rotated || aged || is_long;
                if line.is_empty() || self.spent || !due {
                    break;
                }
            }
            if !(at == self.judged && self.spent) {
                let mut length = 0;
                for (number, pad) in line {
                    // what begins beyond the cut is not searched
                    if length + 8 < LINE && !self.counted.contains(number) {
                        *into.entry(*number).or_default() += 1;
                        self.counted.push(*number);
                    }
                    length += pad + number.to_string().len() + 2;
                }
            }
            self.spent = is_long;
            if at != last || is_long {
                self.counted.clear();
            }
        }
        self.judged = last;
        if self.lines[last].is_empty() {
            self.spent = false;
        }
        self.seen = (last, self.lines[last].len());
    }

    pub(crate) fn pass(&mut self) {
        self.judged = self.lines.len() - 1;
        self.spent = !self.lines[self.judged].is_empty();
        self.counted.clear();
        self.seen = (self.judged, self.lines[self.judged].len());
    }
}

/// A line is cut here.
const LINE: usize = 64 << 10;

const NUMBERS: usize = 45;

/// Plays the steps, in a log that is stored so.
pub(crate) fn play(steps: &[Step], encoding: Encoding) {
    let stored = |text: &str| match encoding {
        Encoding::Bytes => text.as_bytes().to_vec(),
        Encoding::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Encoding::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
    };
    let mut scene = Scene::new();
    scene.rule.lines = 1000;
    scene.rule.forbid = (0..NUMBERS).map(|i| forbid(&format!("<{i}>"))).collect();
    // only the first file has a mark
    scene.log(if encoding == Encoding::Bytes {
        Vec::new()
    } else {
        stored("\u{feff}")
    });
    scene.look();
    // the last one is at the path
    let mut texts = vec![Text::new()];
    let mut renamed: Option<usize> = None;
    let mut was_seen = true;
    let mut number = 0;
    let run = |scene: &mut Scene, texts: &mut Vec<Text>| {
        let mut expected = BTreeMap::new();
        let last = texts.len() - 1;
        for (i, text) in texts.iter_mut().enumerate() {
            text.judge(i != last, &mut expected);
        }
        let looked = scene.look();
        let found: BTreeMap<usize, u64> = looked
            .findings
            .iter()
            .map(|finding| {
                let message = &finding.message;
                let number = message.split(['<', '>']).nth(1).unwrap().parse().unwrap();
                let count = message.split(": ").nth(1).unwrap();
                (number, count.split(' ').next().unwrap().parse().unwrap())
            })
            .collect();
        assert_eq!(found, expected, "{:?}", looked.notes);
        let gaps: Vec<_> = looked
            .notes
            .iter()
            .filter(|n| !n.contains("truncated for"))
            .collect();
        assert!(gaps.is_empty(), "{gaps:?}");
    };
    for step in steps.iter().chain([&Step::Run, &Step::Run, &Step::Run]) {
        match step {
            Step::Append(pad, end) => {
                let text = format!("<{number}>{}{}", "x".repeat(*pad), end.text());
                scene.log(stored(&text));
                texts.last_mut().unwrap().add(number, *pad, *end);
                number += 1;
            }
            Step::Feed => {
                // a truncated file that begins as it did before cannot be told from one that was not truncated
                if texts.len() > 1 && texts.last().unwrap().is_empty() {
                    continue;
                }
                scene.log(stored("\n"));
                texts.last_mut().unwrap().feed();
            }
            Step::Rename => {
                scene.rotate();
                let at = texts.len() - 1;
                renamed = Some(at).filter(|_| was_seen || !texts[at].is_empty());
                was_seen = false;
                texts.push(Text::new());
            }
            Step::Copytruncate => {
                scene.copytruncate();
                renamed = None;
                was_seen = false;
                texts.push(Text::new());
            }
            Step::Late(end) => {
                let Some(at) = renamed.filter(|_| texts.last().unwrap().is_empty()) else {
                    continue;
                };
                scene.append("app.log.1", stored(&format!("<{number}>{}", end.text())));
                texts[at].add(number, 0, *end);
                number += 1;
            }
            Step::Run => {
                run(&mut scene, &mut texts);
                was_seen = true;
            }
            Step::MarkEnd => {
                scene.position_at_end();
                texts.iter_mut().for_each(Text::pass);
                was_seen = true;
            }
        }
    }
}
