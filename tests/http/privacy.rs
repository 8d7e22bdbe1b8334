//! Whatever fields requests and responses have: a response for one client reaches no other.
//!
//! Each body and each cookie names the client whose request it answers. If a client gets another's, sharing
//! must be allowed, by what the test knows of the directives before it writes them.
//!
//! For a minute each: `PROPTEST_CASES=20000 cargo test --test http privacy`; and the parsers and the decoder:
//! `PROPTEST_CASES=180000 cargo test --all-features --lib http::`.

use std::time::Duration;

use http::{Method, Response};
use proptest::{prelude::*, sample::select};
use tokio::runtime::Builder;
use tower::Layer;

use crate::{
    Answer, Cache, Origin,
    origin::{self, OriginBody},
    request, send,
};

/// What a response says, and which of that forbids or permits sharing.
#[derive(Clone, Debug)]
struct Said {
    status: u16,
    /// The directives of `Cache-Control`, and how they are spread over lines.
    control: Vec<(Directive, Spelling)>,
    lines: bool,
    targeted: Option<Vec<Directive>>,
    cookie: bool,
    vary: Option<&'static str>,
    other: Vec<(&'static str, &'static str)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Directive {
    NoStore,
    Private,
    PrivateCookie,
    NoCache,
    NoCacheCookie,
    Public,
    MustRevalidate,
    SMaxage,
    MaxAge,
    Stale,
    Unknown,
}

use Directive::*;

#[derive(Clone, Copy, Debug)]
enum Spelling {
    Plain,
    Upper,
    Spaced,
}

impl Directive {
    const ALL: [Self; 11] = [
        NoStore,
        Private,
        PrivateCookie,
        NoCache,
        NoCacheCookie,
        Public,
        MustRevalidate,
        SMaxage,
        MaxAge,
        Stale,
        Unknown,
    ];

    fn text(self) -> &'static str {
        match self {
            NoStore => "no-store",
            Private => "private",
            PrivateCookie => "private=\"set-cookie\"",
            NoCache => "no-cache",
            NoCacheCookie => "no-cache=\"x-a, Set-Cookie\"",
            Public => "public",
            MustRevalidate => "must-revalidate",
            SMaxage => "s-maxage=50",
            MaxAge => "max-age=60",
            Stale => "stale-while-revalidate=100",
            Unknown => "x-ext=\"public, \\\"private\"",
        }
    }

    fn written(self, spelling: Spelling) -> String {
        match spelling {
            Spelling::Plain => self.text().to_owned(),
            Spelling::Upper => self.text().to_uppercase(),
            Spelling::Spaced => format!(" ,\t{} ", self.text()),
        }
    }
}

impl Said {
    fn directives(&self) -> Vec<Directive> {
        let control = self.control.iter().map(|(directive, _)| *directive);
        let Some(targeted) = &self.targeted else { return control.collect() };
        // In a structured field the last of a name counts (RFC 9651 §4.2.2).
        let name = |directive: &Directive| directive.text().split('=').next();
        let last =
            |at: &usize| targeted[at + 1..].iter().all(|later| name(later) != name(&targeted[*at]));
        (0..targeted.len()).filter(last).map(|at| targeted[at]).collect()
    }

    /// Whether the response to one client may be served to another.
    fn may_be_shared(&self, asked: &Asked, other: &Asked) -> bool {
        let said = self.directives();
        let has = |directive| said.contains(&directive);
        let names_cookie = has(PrivateCookie) || has(NoCacheCookie);
        let permitted = has(Public) || has(MustRevalidate) || has(SMaxage);
        let selects = |name: &str| asked.field(name) == other.field(name);
        let selected = self.vary.is_none_or(|names| {
            names.split(", ").all(|name| name == "x-none" || (name != "*" && selects(name)))
        });
        let refused = has(NoStore) || has(Private) || has(NoCache);
        let one_users = self.cookie && !names_cookie;
        let names = |field: &str| self.other.iter().any(|(name, _)| *name == field);
        let is_explicit = has(SMaxage) || has(MaxAge) || names("expires");
        let lasts = is_explicit || (self.status < 500 && names("last-modified"));
        !refused
            && !one_users
            && selected
            && lasts
            && !asked.has("cache-control", "no-store")
            && (asked.field("authorization").is_none() || permitted)
            && self.status != 206
    }

    fn response(&self, client: &str) -> Response<OriginBody> {
        let mut response = Response::new(origin::full(client.to_owned()));
        *response.status_mut() = self.status.try_into().expect("a status");
        let fields = response.headers_mut();
        let spelt = self.control.iter().map(|(directive, spelling)| directive.written(*spelling));
        let lines: Vec<String> = match self.lines {
            true => spelt.collect(),
            false => Some(spelt.collect::<Vec<_>>().join(",")).into_iter().collect(),
        };
        let targeted = self.targeted.iter().map(|directives| {
            let texts: Vec<_> = directives.iter().map(|directive| directive.text()).collect();
            ("cdn-cache-control", texts.join(", "))
        });
        let control = lines.into_iter().map(|line| ("cache-control", line));
        let cookie = self.cookie.then(|| ("set-cookie", format!("client={client}")));
        let vary = self.vary.map(|names| ("vary", names.to_owned()));
        let other = self.other.iter().map(|(name, value)| (*name, (*value).to_owned()));
        for (name, value) in control.chain(targeted).chain(cookie).chain(vary).chain(other) {
            fields.append(name, value.parse().expect("a value"));
        }
        response
    }
}

const EXPIRES: (&str, &str) = ("expires", "Fri, 31 Dec 9999 23:59:59 GMT");

fn said() -> impl Strategy<Value = Said> {
    let spellings = select(vec![Spelling::Plain, Spelling::Upper, Spelling::Spaced]);
    let control = (select(Directive::ALL.to_vec()), spellings);
    let others = vec![
        EXPIRES,
        ("etag", "\"v1\""),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("pragma", "no-cache"),
        ("age", "5"),
        ("connection", "cache-control, vary"),
        ("content-encoding", "br"),
    ];
    let targeted = select(Directive::ALL.to_vec());
    (
        prop_oneof![8 => Just(200), 1 => select(vec![203, 206, 301, 404, 299, 500, 503])],
        prop::collection::vec(control, 0..4),
        any::<bool>(),
        prop::option::weighted(0.15, prop::collection::vec(targeted, 1..3)),
        prop::bool::weighted(0.3),
        prop::option::weighted(
            0.4,
            select(vec!["*", "accept", "x-a", "x-none", "authorization", "x-a, *", "accept, x-a"]),
        ),
        prop::collection::vec(select(others), 0..3),
    )
        .prop_map(|(status, control, lines, targeted, cookie, vary, other)| Said {
            status,
            control,
            lines,
            targeted,
            cookie,
            vary,
            other,
        })
}

/// A client's fields.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Asked(Vec<(&'static str, &'static str)>);

impl Asked {
    fn field(&self, name: &str) -> Option<&'static str> {
        self.0.iter().find(|field| field.0 == name).map(|field| field.1)
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.field(name) == Some(value)
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let one = |name: &'static str, weight, values: Vec<&'static str>| {
        prop::option::weighted(weight, select(values)).prop_map(move |value| Some((name, value?)))
    };
    let control =
        vec!["no-store", "no-cache", "max-age=0", "max-stale", "only-if-cached", "min-fresh=5"];
    (
        one("authorization", 0.4, vec!["Bearer a", "Bearer b"]),
        one("cookie", 0.3, vec!["s=1", "s=2"]),
        one("cache-control", 0.3, control),
        one("accept", 0.3, vec!["a/b", "b/a"]),
        one("x-a", 0.3, vec!["1", "2"]),
        one("if-none-match", 0.1, vec!["\"v1\"", "*"]),
        one("range", 0.1, vec!["bytes=0-"]),
    )
        .prop_map(|(a, b, c, d, e, f, g)| {
            Asked([a, b, c, d, e, f, g].into_iter().flatten().collect())
        })
}

async fn ask(cache: &Cache, client: &'static str, asked: &Asked) -> Answer {
    let mut fields = asked.0.clone();
    fields.push(("x-client", client));
    send(cache, request(Method::GET, "/", &fields)).await
}

/// The answers to two clients that ask in turn, and then at one time.
async fn answers(said: Said, a: &Asked, b: &Asked) -> Vec<(&'static str, Answer)> {
    let origin = Origin::new(move |request| {
        said.response(request.headers()["x-client"].to_str().expect("text"))
    });
    let mut answers = Vec::new();
    for taking in [0, 1] {
        let origin = origin.clone().taking(Duration::from_secs(taking));
        let cache = crate::layer().layer(origin.service());
        for pause in [0, 1, 30, 61, 12] {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            let (first, second) = match taking {
                0 => (ask(&cache, "a", a).await, ask(&cache, "b", b).await),
                _ => tokio::join!(ask(&cache, "a", a), ask(&cache, "b", b)),
            };
            answers.extend([("a", first), ("b", second)]);
        }
    }
    answers
}

proptest! {
    #[test]
    fn rfc9111_3_private_responses_reach_no_other_client(
        said in said(),
        a in asked(),
        other in prop::option::weighted(0.6, asked()),
    ) {
        let b = other.unwrap_or_else(|| a.clone());
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let answers = runtime.expect("a runtime").block_on(answers(said.clone(), &a, &b));
        for (client, answer) in answers {
            let (own, theirs, other) = if client == "a" { (&a, &b, "b") } else { (&b, &a, "a") };
            let told = answer.response.headers().iter();
            let mut cookies = told.filter(|(name, _)| *name == "set-cookie");
            let foreign = format!("client={other}");
            prop_assert!(cookies.all(|(_, value)| value.as_bytes() != foreign.as_bytes()));
            if answer.text() == other {
                prop_assert!(said.may_be_shared(theirs, own), "{client} got {answer:?}");
            }
            if theirs.has("cache-control", "no-store") {
                prop_assert_ne!(answer.text(), other, "nothing of theirs may be kept");
            }
        }
    }
}

/// The test above would prove nothing if nothing were shared.
#[tokio::test(start_paused = true)]
async fn shareable_responses_are_shared() {
    let said = |control: &[Directive]| Said {
        status: 200,
        control: control.iter().map(|directive| (*directive, Spelling::Plain)).collect(),
        lines: false,
        targeted: None,
        cookie: false,
        vary: None,
        other: Vec::new(),
    };
    let (open, known) = (Asked(Vec::new()), Asked(vec![("authorization", "Bearer a")]));
    for (control, asked) in [(&[MaxAge][..], &open), (&[MaxAge, Public], &known)] {
        assert!(said(control).may_be_shared(asked, asked));
        let shared = answers(said(control), asked, asked).await;
        assert!(shared.iter().any(|(client, answer)| *client == "b" && answer.text() == "a"));
    }
}
