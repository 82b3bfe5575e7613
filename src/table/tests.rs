//! A table with all that tables can have, as those of probes, channels and scales need it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;

use super::fault::Source;
use super::*;
use crate::notify::mail::Secret;

table! {
    /// A probe.
    struct Probe like "[[probe]]", check is_possible {
        /// Where it is.
        address: String as Filled, example r#""127.0.0.1:80""#;
        /// How long it must have failed.
        lasting("for"): Duration = Duration::ZERO;
        /// Which answers are good.
        status: Vec<Status> = vec![Status("2xx".to_owned())];
        /// What is measured.
        metric: Metric as Via<MetricKeys> = Metric::Cpu, example r#""cpu""#;
        /// How much of it there may be.
        memory: Option<Limit>, example "{ warning = 80, for = \"5m\" }";
        /// Who asks.
        token: Secret => Secret, commented r#""s3cret""#;
        /// Which of several.
        target: Target => Via<TargetKeys>;
    }
}

table! {
    /// A limit.
    struct Limit like "{ warning = 80 }" {
        /// Above this.
        warning: u8 as Within<1, 100>, example "80";
        /// For so long.
        lasting("for"): Duration = Duration::ZERO;
    }
}

table! {
    /// One of two.
    struct TargetKeys like "name = \"x\"", check is_one {
        /// By its name.
        name: Option<String> as Option<Filled>, example r#""gateway""#;
        /// By its number.
        number: Option<u32> as Option<AtLeast<1>>, commented "3";
    }
}

table! {
    /// A config.
    struct Root like "" {
        /// Probes.
        probe: Vec<Probe> = Vec::new();
        /// What holds for all.
        limits: Limits => Nested;
        /// Whom to alert by mail.
        notify: Vec<Channel> = Vec::new();
    }
}

table! {
    /// Limits of all.
    struct Limits like "limits = { step = 2 }" {
        /// How many at once.
        step: u32 as AtLeast<1> = 1;
        /// How often.
        every: Duration as Positive = Duration::from_secs(60);
    }
}

/// One of several tables, as its key `type` says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Channel {
    Chat(Chat),
    Queue(Queue),
}

table! {
    /// What all channels have.
    struct Common like "" {
        /// What it is.
        kind("type"): Type, example r#""chat""#;
        /// Messages in an hour.
        max_per_hour: u32 as Within<1, 3600> = 12;
    }
}

table! {
    /// A chat room of a channel.
    struct Chat like "{ type = \"chat\" }" {
        /// What all channels have.
        common: Common => Flat;
        /// Its address.
        url: Secret => Secret, commented r#""https://…""#;
    }
}

table! {
    /// A queue.
    struct Queue like "{ type = \"queue\" }" {
        /// What all channels have.
        common: Common => Flat;
        /// Its name.
        stream: String as Filled = "alerts".to_owned();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Chat,
    Queue,
}

choice! { Type: "chat" = Chat, "queue" = Queue }

impl Form for Channel {
    fn read(value: &Value<'_>, context: &Context) -> Option<Self> {
        let kind = value
            .key("type")
            .and_then(|kind| Type::read(&kind, context));
        match kind {
            Some(Type::Queue) => Queue::read(value, context).map(Self::Queue),
            // where it says nothing, that is told with the rest
            _ => Chat::read(value, context).map(Self::Chat),
        }
    }

    fn show(value: &Self) -> Option<Shown> {
        Some(match value {
            Self::Chat(chat) => chat.shown(),
            Self::Queue(queue) => queue.shown(),
        })
    }

    fn kind() -> String {
        "a table".to_owned()
    }

    fn inner() -> Option<Inner> {
        Some(Inner {
            layouts: const { &[Chat::LAYOUT, Queue::LAYOUT] },
            standing: Standing::Once,
        })
    }
}

fn is_possible(_: &Table<'_>, part: &mut Part<Probe>) {
    part.status.get_or_insert_default();
}

fn is_one(table: &Table<'_>, _: &mut Part<TargetKeys>) {
    table.at_most_one(&["name", "number"], "it is known by one of name, number");
    if !table.has_any(&["name", "number"]) {
        table.lacks("nothing says which", "write name or number");
    }
}

/// By its name or its number.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Name(String),
    Number(u32),
}

impl Meant<Target> for TargetKeys {
    fn meant(self) -> Option<Target> {
        let name = self.name.map(Target::Name);
        name.or_else(|| self.number.map(Target::Number))
    }

    fn written(value: &Target) -> Self {
        let (name, number) = match value {
            Target::Name(name) => (Some(name.clone()), None),
            Target::Number(number) => (None, Some(*number)),
        };
        Self { name, number }
    }
}

/// A number or a class.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Status(String);

impl Form for Status {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        match value.raw_number() {
            Some(number) => Some(Self(number.to_string())),
            None => value.filled().map(Self),
        }
    }

    fn show(value: &Self) -> Option<Shown> {
        Some(Shown::text(&value.0))
    }

    fn kind() -> String {
        "a number or a class".to_owned()
    }
}

/// A word, or a table.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Metric {
    Cpu,
    Command(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Cpu,
}

choice! { Word: "cpu" = Cpu }

table! {
    /// What is measured.
    struct MetricKeys like "{ command = [\"x\"] }", short word {
        /// By a word.
        word: Option<Word>, example r#""cpu""#;
        /// By a program that prints a number.
        command: Option<Vec<String>> as Option<Program>, example r#"["x"]"#;
    }
}

impl Meant<Metric> for MetricKeys {
    fn meant(self) -> Option<Metric> {
        let command = self.command.map(Metric::Command);
        command.or_else(|| self.word.map(|Word::Cpu| Metric::Cpu))
    }

    fn written(value: &Metric) -> Self {
        let (word, command) = match value {
            Metric::Cpu => (Some(Word::Cpu), None),
            Metric::Command(command) => (None, Some(command.clone())),
        };
        Self { word, command }
    }
}

fn read(text: &str) -> Result<Root, String> {
    let path = Path::new("/etc/x.toml");
    let (tree, slips) = DeTable::parse_recoverable(text);
    assert!(slips.is_empty(), "{slips:?}");
    let faults = Faults::of(Root::LAYOUT);
    let directory: Arc<Path> = Arc::from(Path::new("/etc"));
    let context = Context {
        base: Arc::clone(&directory),
        directory,
    };
    let table = Table::whole(&faults, tree.get_ref(), Root::LAYOUT);
    let root = Root::whole(Root::take(&table, &context));
    if faults.is_empty() {
        return Ok(root.unwrap());
    }
    let told = faults.told(&Source::new(text, path), &[]);
    let told: Vec<_> = told
        .iter()
        .map(|fault| {
            format!(
                "{}: {}; {}",
                fault.place,
                fault.message,
                fault.help.as_deref().unwrap_or_default()
            )
        })
        .collect();
    Err(told.join("\n"))
}

const WHOLE: &str = "[[probe]]\naddress = \"x\"\nfor = \"5m\"\nstatus = [200, \"3xx\"]\nmetric = { command = [\"y\"] }\n\
                     memory = { warning = 90, for = \"10m\" }\ntoken_env = \"T\"\nnumber = 4\n\
                     [[notify]]\ntype = \"queue\"\n[[notify]]\ntype = \"chat\"\nurl_file = \"u\"\n";

#[test]
fn all_that_can_be_written_is_read() {
    let root = read(WHOLE).unwrap();
    let probe = &root.probe[0];
    assert_eq!(probe.lasting, Duration::from_mins(5));
    assert_eq!(
        probe.status,
        [Status("200".to_owned()), Status("3xx".to_owned())]
    );
    assert_eq!(probe.metric, Metric::Command(vec!["y".to_owned()]));
    let memory = probe.memory.as_ref().unwrap();
    assert_eq!(
        (memory.warning, memory.lasting),
        (90, Duration::from_mins(10))
    );
    assert_eq!(probe.token, Secret::Env("T".to_owned()));
    assert_eq!(probe.target, Target::Number(4));
    assert_eq!(root.limits.step, 1);
    let [Channel::Queue(queue), Channel::Chat(chat)] = &root.notify[..] else {
        panic!("{:?}", root.notify);
    };
    assert_eq!(
        (queue.stream.as_str(), queue.common.max_per_hour),
        ("alerts", 12)
    );
    assert_eq!(chat.url, Secret::File("/etc/u".into()));
}

#[test]
fn what_is_shown_is_read_as_the_same() {
    let root = read(WHOLE).unwrap();
    let shown = toml::to_string(&root.shown()).unwrap();
    assert_eq!(read(&shown), Ok(root), "{shown}");
    let mut secret = read(&WHOLE.replace("token_env", "token")).unwrap();
    let shown = secret.shown().to_string();
    assert!(shown.contains("token = \"***\""), "{shown}");
    // what is left out is shown with what holds in its place
    secret = read("").unwrap();
    assert_eq!(
        secret.shown().to_string(),
        "{ limits = { step = 1, every = \"1m\" } }"
    );
}

#[test]
fn all_that_is_wrong_is_told() {
    let told = read(
        "probe = [\n{ adress = \"x\", for = 5, status = [true], metric = \"ram\", memory = { warning = 101 }, number = 0 },\n\
         { address = \"\", token_env = \"A B\", token = \"y\", metric = { command = [] }, name = \"a\", number = 1 }, 3,\n]\nstep = 3\n",
    )
    .unwrap_err();
    assert_eq!(
        told,
        "\
[[probe]]: `token` is missing; write token_file, token_env or token_credential; or token = \"s3cret\", where nobody else can read this file
[[probe]] adress: unknown key `adress`; did you mean `address`?
[[probe]] for: `for` must be a duration, not a whole number; write it with a unit, in quotes: \"5s\"
[[probe]] status[0]: an entry of `status` must be a string, not a boolean; write it in quotes: \"true\"
[[probe]] metric: `metric` cannot be `ram`; it is one of cpu
[[probe]] memory.warning: `warning` is out of range; write a number from 1 to 100
[[probe]] number: `number` is out of range; write 1 or more
[[probe]] address: `address` must not be empty; write address = \"127.0.0.1:80\"
[[probe]] token_env: `token_env` is not a name; write the name of a variable, like PROBE_TOKEN, that holds the token
[[probe]] token: `token` beside `token_env` in [[probe]]; a token comes from one place
[[probe]] metric.command: `command` must not be empty; the first entry is the program
[[probe]] number: `number` beside `name` in [[probe]]; it is known by one of name, number
probe[2]: an entry of `probe` must be a table, not a whole number; write it like [[probe]]
step: unknown key `step`; `step` belongs in `[limits]`"
    );
    let told = read("[[notify]]\nstream = \"x\"\n[[notify]]\ntype = \"queue\"\nurl = \"x\"\n[[notify]]\ntype = \"chta\"\nurl = \"x\"").unwrap_err();
    assert_eq!(
        told,
        "\
[[notify]]: `type` is missing; write type = \"chat\"
[[notify]]: `url` is missing; write url_file, url_env or url_credential; or url = \"https://…\", where nobody else can read this file
[[notify]] stream: unknown key `stream`; `stream` belongs in `[[notify]]` like { type = \"queue\" }
[[notify]] url: unknown key `url`; `url` belongs in `[[notify]]` like { type = \"chat\" }
[[notify]] type: `type` cannot be `chta`; did you mean `chat`? it is one of chat, queue"
    );
    let told = read("[probe]\naddress = \"x\"").unwrap_err();
    assert_eq!(
        told,
        "[probe]: `probe` must be a list of tables, not a table; write its header in double brackets: [[probe]]"
    );
}

#[test]
fn what_is_not_said_comes_from_elsewhere_key_by_key() {
    type P = Part<Limits>;
    let own = P {
        step: Some(4),
        every: None,
    };
    let all = P {
        step: Some(5),
        every: Some(Duration::from_secs(7)),
    };
    let limits = Limits::whole(Limits::or(own, &all)).unwrap();
    assert_eq!((limits.step, limits.every), (4, Duration::from_secs(7)));
}

#[test]
fn each_key_is_explained_with_a_value() {
    let sections = sections(Root::LAYOUT);
    let places: Vec<_> = sections
        .iter()
        .map(|section| section.place.as_str())
        .collect();
    assert_eq!(
        places,
        [
            "",
            "[[probe]]",
            "an entry of `metric`",
            "[limits]",
            "[[notify]]",
            "[[notify]]"
        ]
    );
    let lines: Vec<_> = sections[1]
        .lines()
        .into_iter()
        .map(|line| format!("{}: {} {:?}", line.name, line.kind, line.value))
        .collect();
    assert_eq!(
        lines,
        [
            r#"address: a text Example("\"127.0.0.1:80\"")"#,
            r#"for: a duration Default("\"0s\"")"#,
            r#"status: a list, each number or a class Default("[\"2xx\"]")"#,
            r#"metric: one of cpu, or a table Example("\"cpu\"")"#,
            r#"memory: a table Example("{ warning = 80, for = \"5m\" }")"#,
            r#"token_file: a text Commented("\"/etc/watchdog/probe.token\"")"#,
            r#"token_env: a text Commented("\"PROBE_TOKEN\"")"#,
            r#"token_credential: a text Commented("\"probe-token\"")"#,
            r#"token: a text Commented("\"s3cret\"")"#,
            r#"name: a text Example("\"gateway\"")"#,
            r#"number: a whole number, 1 or more Commented("3")"#,
        ]
    );
}
