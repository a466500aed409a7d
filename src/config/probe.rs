//! `[[probe]]`: one section of a file as a [`Probe`].

use std::collections::BTreeMap;

use toml::Spanned;

use super::app::{Address, Probe, Unit};
use super::document::Section;
use super::text::{self, INSTANCE, VERSION};

/// The path that is asked unless the file says otherwise.
const DEFAULT_PATH: &str = "/health";

/// The longest path of a Unix socket, in bytes: `sun_path` less its NUL (unix(7)).
const MAX_SOCKET_BYTES: usize = 107;

/// The longest text that is sent or looked for.
const MAX_TEXT: usize = 1024;

const ADDRESS_HELP: &str =
    "write address = \"127.0.0.1:8080\", or a socket's path: \"/run/slots/web/{instance}/health.sock\"";

const OUTSIDE_HELP: &str = "write address = \"127.0.0.1:80\", where users call";

#[derive(Clone, Copy)]
enum Kind {
    Notify,
    Http,
    Tcp,
    Unix,
    Unit,
}

/// The probe that `section` describes; `units` are those of the app.
pub(super) fn read(section: &Section<'_>, units: &[Unit]) -> Option<Probe> {
    let kinds = [
        ("notify", Kind::Notify),
        ("http", Kind::Http),
        ("tcp", Kind::Tcp),
        ("unix", Kind::Unix),
        ("unit", Kind::Unit),
    ];
    section.required_text("kind", "one of notify, http, tcp, unix, unit")?;
    let probe = match section.choice("kind", &kinds, &[])? {
        Kind::Notify => Some(Probe::Notify),
        Kind::Http => http(section),
        Kind::Tcp => tcp(section),
        Kind::Unix => unix(section),
        Kind::Unit => unit(section, units),
    };
    section.finish();
    probe
}

/// What is asked at the address of `[outside]`: HTTP, if anything of it is named, else whether a connection is accepted.
pub(super) fn outside(section: &Section<'_>) -> Option<Probe> {
    let address = section.required_text("address", OUTSIDE_HELP).and_then(|text| {
        let good = text::is_host_port(text.get_ref()) && text::placeholders(text.get_ref()).is_empty();
        if !good {
            let message = format!("{:?} is no address: HOST:PORT, an IPv6 host in brackets", text.get_ref());
            section.error(text.span(), message, OUTSIDE_HELP.to_owned());
        }
        good.then(|| text.into_inner())
    });
    let is_http = ["path", "status", "headers", "body"].into_iter().any(|key| section.has(key));
    let http = http_at(section, address.clone().map(Address::Tcp));
    if is_http { http } else { address.map(|address| Probe::Tcp { address }) }
}

fn http(section: &Section<'_>) -> Option<Probe> {
    let address = section.required_text("address", ADDRESS_HELP).and_then(|text| address(section, &text));
    http_at(section, address)
}

fn http_at(section: &Section<'_>, address: Option<Address>) -> Option<Probe> {
    let path = section.text("path").map(|path| checked_path(section, path));
    let status = section.numbers("status", 100..=599);
    if status.as_ref().is_some_and(Vec::is_empty) {
        section.error(section.place_of("status"), "no status would be good", None);
    }
    let status = status.map(|list| list.into_iter().filter_map(|status| u16::try_from(status).ok()).collect());
    let body = section.text("body").inspect(|body| placeholders(section, body, &[VERSION]));
    if body.as_ref().is_some_and(|body| body.get_ref().is_empty() || body.get_ref().len() > MAX_TEXT) {
        section.error(section.place_of("body"), format!("`body` has 1 to {MAX_TEXT} bytes"), None);
    }
    let headers = headers(section);
    Some(Probe::Http {
        address: address?,
        path: path.unwrap_or_else(|| DEFAULT_PATH.to_owned()),
        status: status.unwrap_or_else(|| (200..=299).collect()),
        headers,
        body: body.map(Spanned::into_inner),
    })
}

fn address(section: &Section<'_>, text: &Spanned<String>) -> Option<Address> {
    let plain = text.get_ref();
    let path = plain.strip_prefix("unix:").unwrap_or(plain);
    if path.starts_with('/') {
        let path = Spanned::new(text.span(), path.to_owned());
        return socket_path(section, path).map(|path| Address::Unix(path.into()));
    }
    host_port(section, text).map(Address::Tcp)
}

fn host_port(section: &Section<'_>, text: &Spanned<String>) -> Option<String> {
    if text::is_host_port(text.get_ref()) {
        return Some(text.get_ref().clone());
    }
    let message = format!("{:?} is no address: HOST:PORT, an IPv6 host in brackets", text.get_ref());
    section.error(text.span(), message, ADDRESS_HELP.to_owned());
    None
}

fn socket_path(section: &Section<'_>, path: Spanned<String>) -> Option<String> {
    let text = path.get_ref();
    // The placeholder's own length is known only when an instance is there.
    let fixed = text.replace("{instance}", "").len();
    if !text.starts_with('/') || text.contains(|c: char| c.is_control()) || text.split('/').any(|part| part == "..") {
        section.error(path.span(), "a socket's path begins with / and has no ..", None);
        return None;
    }
    if fixed > MAX_SOCKET_BYTES {
        section.error(path.span(), format!("a socket's path has at most {MAX_SOCKET_BYTES} bytes"), None);
        return None;
    }
    placeholders(section, &path, &[INSTANCE]);
    Some(path.into_inner())
}

fn checked_path(section: &Section<'_>, path: Spanned<String>) -> String {
    let text = path.get_ref();
    if !text.starts_with('/') || text.len() > MAX_TEXT || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("a path begins with / and has visible ASCII characters only, at most {MAX_TEXT}");
        section.error(path.span(), message, None);
    }
    placeholders(section, &path, &[]);
    path.into_inner()
}

fn headers(section: &Section<'_>) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for (name, value) in section.section("headers").iter().flat_map(Section::texts) {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.get_ref().is_empty() || !name.get_ref().bytes().all(token) {
            section.error(name.span(), format!("{:?} is no header's name", name.get_ref()), None);
        }
        if value.get_ref().contains(|c: char| c.is_control()) || value.get_ref().len() > MAX_TEXT {
            section.error(
                value.span(),
                format!("a header's value has no control characters and at most {MAX_TEXT} bytes"),
                None,
            );
        }
        placeholders(section, &value, &[VERSION]);
        headers.insert(name.into_inner(), value.into_inner());
    }
    headers
}

fn tcp(section: &Section<'_>) -> Option<Probe> {
    let text = section.required_text("address", "write address = \"127.0.0.1:8080\"")?;
    host_port(section, &text).map(|address| Probe::Tcp { address })
}

fn unix(section: &Section<'_>) -> Option<Probe> {
    let help = "write path = \"/run/slots/web/{instance}/health.sock\"";
    let path = section.required_text("path", help)?;
    socket_path(section, path).map(|path| Probe::Unix { path })
}

fn unit(section: &Section<'_>, units: &[Unit]) -> Option<Probe> {
    let name = section.required_text("name", "write name = \"web-check@\", or \"web-check.service\"")?;
    let text = name.get_ref();
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    let plain = text.strip_suffix(".service").is_some_and(|stem| !stem.is_empty() && !stem.ends_with('@'));
    let template = text.parse::<crate::model::Template>();
    if !(template.is_ok() || plain && text.chars().all(known)) {
        let message = format!("{text:?} is no unit: a template that ends in @, or a name that ends in .service");
        section.error(name.span(), message, None);
        return None;
    }
    if template.is_ok_and(|template| units.iter().any(|unit| unit.name == template)) {
        section.error(
            name.span(),
            format!("{text} is a unit of the app itself; a probe is a oneshot of its own"),
            None,
        );
        return None;
    }
    Some(Probe::Unit { name: name.into_inner() })
}

/// Complains of placeholders that nobody would fill in.
fn placeholders(section: &Section<'_>, text: &Spanned<String>, known: &[&str]) {
    for name in text::placeholders(text.get_ref()).into_iter().filter(|name| !known.contains(name)) {
        let help = match known {
            [] => "none is known here".to_owned(),
            known => format!("known here: {{{}}}", known.join("}, {")),
        };
        section.error(text.span(), format!("unknown placeholder {{{name}}}"), help);
    }
}
