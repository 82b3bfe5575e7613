//! Where a redirect leads, and what may be told there.

use ureq_proto::client::state::Redirect;
use ureq_proto::client::{Call, RedirectAuthHeaders};
use ureq_proto::http::uri::{Scheme, Uri};

use super::exchange::{Errand, bare, target};
use super::{MOST_REDIRECTS, Url, Wrong, location, shown};
use crate::client::Address;

impl<A> Errand<'_, A> {
    /// The same errand where a redirect leads.
    pub(super) fn redirected_by(&self, mut call: Call<Redirect>) -> Result<Self, Wrong> {
        let redirected = self.redirected + 1;
        let most = self.request.redirects.min(MOST_REDIRECTS);
        if redirected > most {
            return Err(Wrong::Redirects(redirected));
        }
        let status = call.status();
        // nothing of the former request is taken over from the library but where to go, and how
        let next = match call.as_new_call(RedirectAuthHeaders::Never) {
            Ok(Some(next)) => next,
            Ok(None) => {
                return Err(Wrong::Redirect(format!(
                    "answered {}, and a {} is not sent twice",
                    shown(status),
                    self.method
                )));
            }
            Err(error) => {
                return Err(Wrong::Redirect(format!(
                    "answered {}, and does not say where to: {}",
                    shown(status),
                    location(&error.to_string(), &self.request.secrets)
                )));
            }
        };
        let uri = next.uri();
        let is_same = self.is_same_place(uri);
        let url = if is_same {
            self.url.at_same_place(uri)
        } else {
            Url::of(uri).map_err(|why| {
                Wrong::Redirect(format!(
                    "redirects to `{}`, which cannot be asked: {why}",
                    location(&uri.to_string(), &self.request.secrets)
                ))
            })?
        };
        let is_trusted = self.is_trusted && (is_same || is_safer(&self.url, uri));
        Ok(Self {
            target: target(&self.request, &url, is_trusted),
            url,
            has_body: self.has_body && next.method() == self.method,
            method: next.method().clone(),
            is_trusted,
            redirected,
            ..self.clone()
        })
    }

    /// Whether that is the server that is asked now: the same scheme, host and port, or the name that it is called by in
    /// `Host`.
    fn is_same_place(&self, uri: &Uri) -> bool {
        let here = self.url.uri();
        if uri.scheme() != here.scheme() {
            return false;
        }
        let host = self.request.host.as_deref().filter(|_| self.is_trusted);
        let called = |there: &str| host.is_some_and(|host| bare(host).eq_ignore_ascii_case(there));
        match (host_of(uri), host_of(here)) {
            (Some(there), Some(own)) => {
                let same_port = port(uri) == port(here);
                there.eq_ignore_ascii_case(own) && same_port
                    || called(there) && (same_port || uri.port().is_none())
            }
            _ => false,
        }
    }
}

fn host_of(uri: &Uri) -> Option<&str> {
    uri.host()
}

fn port(uri: &Uri) -> u16 {
    let usual = if uri.scheme() == Some(&Scheme::HTTPS) {
        443
    } else {
        80
    };
    uri.port_u16().unwrap_or(usual)
}

/// Whether that is the same host by https, where it was asked by http: both at their usual ports. What listens on a unix
/// socket is asked as `localhost`, and has nothing to do with who listens on the ports of this machine.
fn is_safer(here: &Url, there: &Uri) -> bool {
    if matches!(here.address(), Address::Unix(_)) {
        return false;
    }
    let here = here.uri();
    let same_host = match (here.host(), there.host()) {
        (Some(here), Some(there)) => here.eq_ignore_ascii_case(there),
        _ => false,
    };
    same_host
        && (here.scheme(), there.scheme()) == (Some(&Scheme::HTTP), Some(&Scheme::HTTPS))
        && (port(here), port(there)) == (80, 443)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_go_on_to_the_same_host_by_https_and_to_no_other() {
        for (here, there, expected) in [
            ("http://localhost/", "https://localhost/x", true),
            ("http://a.example:80/", "https://A.example:443/x", true),
            ("http://a.example/", "https://b.example/", false),
            ("http://a.example:8080/", "https://a.example/", false),
            ("https://a.example/", "http://a.example/", false),
            ("unix:/run/app.sock:/", "https://localhost/x", false),
        ] {
            let url = Url::parse(here).unwrap();
            assert_eq!(is_safer(&url, &there.parse().unwrap()), expected, "{here}");
        }
    }
}
