//! What happened at an address, for a tired person.

use super::{Address, Failure, Fault, Step};
use crate::clock::rough;

/// Of a name with many addresses, so many are shown.
const SHOWN_ADDRESSES: usize = 4;

/// What failures at all addresses come to, as a whole sentence. `shown` is how the other side is called, and `tell`
/// continues a sentence about one of its places.
pub fn failed<W>(
    shown: &str,
    address: &Address,
    failures: &[Failure<W>],
    tell: impl Fn(&Fault<W>) -> String,
) -> String {
    match failures {
        [] => format!("{shown} was not tried: it has no address"),
        [one] => match address {
            Address::Name { .. } => format!("{shown} ({}) {}", one.place, tell(&one.fault)),
            Address::Ip(_) | Address::Unix(_) => format!("{shown} {}", tell(&one.fault)),
        },
        many => {
            let mut told: Vec<String> = many
                .iter()
                .take(SHOWN_ADDRESSES)
                .map(|failure| format!("{} {}", failure.place, tell(&failure.fault)))
                .collect();
            if many.len() > SHOWN_ADDRESSES {
                told.push(format!("and {} more", many.len() - SHOWN_ADDRESSES));
            }
            let all = if many.len() == 2 { "both" } else { "all" };
            format!(
                "{shown} failed at {all} of its addresses: {}",
                told.join("; ")
            )
        }
    }
}

/// What happened at an address, as the rest of a sentence that begins with it. `has_to_answer`: it was not enough that it
/// takes what is sent; `answered` tells what is wrong with an answer.
pub fn sentence<W>(
    address: &Address,
    fault: &Fault<W>,
    has_to_answer: bool,
    answered: impl FnOnce(&W) -> String,
) -> String {
    match fault {
        Fault::Refused => match address {
            Address::Unix(_) => {
                "refused the connection: the socket is there, and nothing listens on it".to_owned()
            }
            Address::Ip(_) | Address::Name { .. } => {
                "refused the connection: nothing listens there".to_owned()
            }
        },
        Fault::NoSocket => "is closed: there is no such socket".to_owned(),
        Fault::NotASocket => "is closed: the file there is not a socket".to_owned(),
        Fault::Reset(Step::Connect) => "reset the connection".to_owned(),
        Fault::Reset(Step::Tunnel) => {
            "reset the connection before it had answered CONNECT".to_owned()
        }
        Fault::Reset(Step::Handshake) => "reset the connection in the TLS handshake".to_owned(),
        Fault::Reset(Step::Answer) => "reset the connection before it had answered".to_owned(),
        Fault::HungUp(Step::Tunnel) => {
            "closed the connection without an answer to CONNECT".to_owned()
        }
        Fault::HungUp(Step::Handshake) => "closed the connection in the TLS handshake".to_owned(),
        Fault::HungUp(_) => "closed the connection before all was sent".to_owned(),
        Fault::TimedOut { step, after } => {
            let what = match step {
                Step::Connect => "no connection was accepted",
                Step::Tunnel => "it accepted the connection and did not answer CONNECT",
                Step::Handshake => {
                    "it accepted the connection and did not finish the TLS handshake"
                }
                Step::Answer if has_to_answer => "it accepted the connection and sent nothing",
                Step::Answer => "it accepted the connection and did not take what was sent",
            };
            format!("timed out after {}: {what}", rough(*after))
        }
        Fault::Answer(wrong) => answered(wrong),
        Fault::NoTls(why) => format!("answers, but {why}"),
        Fault::Certificate(why) => format!("answers, but its certificate {why}"),
        Fault::Unreadable(why) => why.clone(),
    }
}
