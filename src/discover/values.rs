//! What placeholders stand for, of a container.

use crate::check::container::compose;
use crate::client::engine::{Listed, Port};
use crate::config::discover::Answer;

/// The label that says which port is meant.
const PORT: &str = "watchdog.port";

/// Whether it runs, so that it has addresses, and its probes are judged.
pub(super) fn runs(container: &Listed) -> bool {
    container.state == "running"
}

/// What a placeholder stands for; absent: there is none of this name. `port` is the one that its table names.
pub(super) fn of(container: &Listed, port: Option<u16>, placeholder: &str) -> Option<Answer> {
    let compose = compose(&container.labels);
    let of_compose = || "it does not belong to a Compose project".to_owned();
    Some(match placeholder {
        "name" => Ok(container.name().to_owned()),
        "ip" => ip(container),
        "port" => port_of(container, port).map(|port| port.to_string()),
        "address" => address(container, port),
        "project" => compose
            .map(|it| it.project.to_owned())
            .ok_or_else(of_compose),
        "service" => compose
            .map(|it| it.service.to_owned())
            .ok_or_else(of_compose),
        _ => {
            let key = placeholder.strip_prefix("label:")?;
            let label = container.labels.get(key).cloned();
            label.ok_or_else(|| "it has no such label".to_owned())
        }
    })
}

/// Its address in the first of its networks.
fn ip(container: &Listed) -> Answer {
    let networks = container.networks.networks.values();
    let mut addresses = networks.map(|network| network.address.as_str());
    let address = addresses.find(|address| !address.is_empty());
    address.map(str::to_owned).ok_or_else(|| {
        if shares_host(container) {
            "it shares the network of the host, and has no address of its own".to_owned()
        } else {
            "it has no address in any network".to_owned()
        }
    })
}

pub(super) fn shares_host(container: &Listed) -> bool {
    container.host.network_mode == "host"
}

/// The port that its label names, or its table, or the only one that it exposes.
fn port_of(container: &Listed, port: Option<u16>) -> Result<u16, String> {
    if let Some(label) = container.labels.get(PORT) {
        let number = label.trim().parse().ok().filter(|port| *port != 0);
        return number.ok_or_else(|| format!("its label {PORT} says `{label}`, which is no port"));
    }
    if let Some(port) = port {
        return Ok(port);
    }
    let mut ports: Vec<u16> = tcp(container).map(|port| port.private_port).collect();
    ports.sort_unstable();
    ports.dedup();
    match ports[..] {
        [port] => Ok(port),
        [] if shares_host(container) => Err(format!(
            "it shares the network of the host, and its image names no TCP port; name one by its label {PORT}"
        )),
        [] => Err(format!(
            "it exposes no TCP port; name one by its label {PORT}"
        )),
        _ => {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            Err(format!(
                "it exposes several TCP ports ({}); name one by its label {PORT}",
                ports.join(", ")
            ))
        }
    }
}

fn tcp(container: &Listed) -> impl Iterator<Item = &Port> {
    container.ports.iter().filter(|port| port.kind == "tcp")
}

/// Where the only port of a container is reached from here; the error is a sentence.
pub fn address_of(container: &Listed) -> Answer {
    address(container, None)
}

/// Where the port is reached from here.
fn address(container: &Listed, port: Option<u16>) -> Answer {
    let port = port_of(container, port)?;
    let published = tcp(container).filter(|it| it.private_port == port);
    let mut published: Vec<(&str, u16)> = published
        .filter_map(|it| Some((it.address.as_str(), it.public_port?)))
        .collect();
    // one of IPv4, where there is one: the other may be switched off
    published.sort_by_key(|(address, _)| address.contains(':'));
    if let Some((address, port)) = published.first() {
        let address = match *address {
            "" | "0.0.0.0" => "127.0.0.1".to_owned(),
            "::" => "[::1]".to_owned(),
            v6 if v6.contains(':') => format!("[{v6}]"),
            v4 => v4.to_owned(),
        };
        return Ok(format!("{address}:{port}"));
    }
    if shares_host(container) {
        return Ok(format!("127.0.0.1:{port}"));
    }
    ip(container).map(|ip| format!("{ip}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As engines list them.
    fn container(more: &str) -> Listed {
        let text = format!(
            r#"{{"Id":"1","Names":["/web"],"State":"running",{more},"Labels":{{
                "com.docker.compose.project":"app","com.docker.compose.service":"web","tier":"x"}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    const BRIDGE: &str = r#""HostConfig":{"NetworkMode":"bridge"},"NetworkSettings":{"Networks":{
        "a":{"IPAddress":""},"b":{"IPAddress":"172.18.0.2"},"c":{"IPAddress":"172.19.0.2"}}}"#;
    const HOST: &str = r#""HostConfig":{"NetworkMode":"host"},"NetworkSettings":{"Networks":{"host":{"IPAddress":""}}}"#;

    fn ports(list: &str, network: &str) -> Listed {
        container(&format!(r#""Ports":[{list}],{network}"#))
    }

    const EXPOSED: &str = r#"{"PrivatePort":8080,"Type":"tcp"},{"PrivatePort":53,"Type":"udp"}"#;
    const PUBLISHED: &str = r#"{"IP":"::","PrivatePort":8080,"PublicPort":81,"Type":"tcp"},
        {"IP":"0.0.0.0","PrivatePort":8080,"PublicPort":80,"Type":"tcp"}"#;

    #[test]
    fn an_address_is_where_the_port_is_reached_from_here() {
        for (list, network, port, address) in [
            (EXPOSED, BRIDGE, "8080", "172.18.0.2:8080"),
            (PUBLISHED, BRIDGE, "8080", "127.0.0.1:80"),
            (
                r#"{"IP":"::","PrivatePort":1,"PublicPort":81,"Type":"tcp"}"#,
                BRIDGE,
                "1",
                "[::1]:81",
            ),
            (
                r#"{"IP":"fd00::5","PrivatePort":1,"PublicPort":81,"Type":"tcp"}"#,
                BRIDGE,
                "1",
                "[fd00::5]:81",
            ),
            (
                r#"{"IP":"10.1.2.3","PrivatePort":1,"PublicPort":81,"Type":"tcp"},
                   {"PrivatePort":1,"Type":"tcp"}"#,
                BRIDGE,
                "1",
                "10.1.2.3:81",
            ),
            // published for udp alone
            (
                r#"{"PrivatePort":1,"Type":"tcp"},{"IP":"0.0.0.0","PrivatePort":1,"PublicPort":81,"Type":"udp"}"#,
                BRIDGE,
                "1",
                "172.18.0.2:1",
            ),
            (EXPOSED, HOST, "8080", "127.0.0.1:8080"),
        ] {
            let listed = ports(list, network);
            assert_eq!(
                of(&listed, None, "port"),
                Some(Ok(port.to_owned())),
                "{list}"
            );
            assert_eq!(
                of(&listed, None, "address"),
                Some(Ok(address.to_owned())),
                "{list}"
            );
        }
    }

    #[test]
    fn which_port_is_meant_is_said_by_the_label_or_the_table() {
        let two = r#"{"PrivatePort":443,"Type":"tcp"},{"PrivatePort":80,"Type":"tcp"}"#;
        let unclear = "it exposes several TCP ports (80, 443); name one by its label watchdog.port";
        let none = "it exposes no TCP port; name one by its label watchdog.port";
        let of_host = "it shares the network of the host, and its image names no TCP port; \
                       name one by its label watchdog.port";
        for (list, network, label, table, port) in [
            (two, BRIDGE, None, None, Err(unclear)),
            (two, BRIDGE, None, Some(443), Ok("443")),
            (two, BRIDGE, Some("80"), Some(443), Ok("80")),
            (two, BRIDGE, Some(" 9000 "), None, Ok("9000")),
            ("", BRIDGE, None, None, Err(none)),
            ("", HOST, None, None, Err(of_host)),
            ("", HOST, Some("80"), None, Ok("80")),
            (
                two,
                BRIDGE,
                Some("http"),
                Some(443),
                Err("its label watchdog.port says `http`, which is no port"),
            ),
            (
                two,
                BRIDGE,
                Some("0"),
                None,
                Err("its label watchdog.port says `0`, which is no port"),
            ),
        ] {
            let mut listed = ports(list, network);
            let labels = label.map(|label| (PORT.to_owned(), label.to_owned()));
            listed.labels.extend(labels);
            let meant = port.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(
                of(&listed, table, "port"),
                Some(meant),
                "{label:?} {table:?}"
            );
        }
    }

    #[test]
    fn the_others_are_read_off_the_container() {
        let listed = ports(EXPOSED, BRIDGE);
        let alone = Listed {
            labels: std::collections::BTreeMap::default(),
            ..ports(EXPOSED, HOST)
        };
        let no_compose = "it does not belong to a Compose project";
        let no_ip = "it shares the network of the host, and has no address of its own";
        for (placeholder, is, is_alone) in [
            ("name", Ok("web"), Ok("web")),
            ("project", Ok("app"), Err(no_compose)),
            ("service", Ok("web"), Err(no_compose)),
            ("label:tier", Ok("x"), Err("it has no such label")),
            ("ip", Ok("172.18.0.2"), Err(no_ip)),
        ] {
            let said =
                |answer: Result<&str, &str>| Some(answer.map(str::to_owned).map_err(str::to_owned));
            assert_eq!(of(&listed, None, placeholder), said(is));
            assert_eq!(of(&alone, None, placeholder), said(is_alone));
        }
        assert_eq!(of(&listed, None, "unit"), None);
    }
}
