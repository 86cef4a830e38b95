//! The API of a running Weir on the memory device: what it answers is what `openapi.json` says.

mod support;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{Running, weir};
use weir_control::api;

const CONFIG: &str = "[device]\nkind = \"memory\"\nqueues = 2\n[worker]\nidle = \"interrupt\"\n\
    [limits]\nsockets = 64\n[control]\nsocket = \"{socket}\"\n\
    [[socket]]\nname = \"web\"\naddress = \"192.0.2.1:80\"\nservice = \"echo\"\n\
    [[program]]\nobject = \"builtin:steer\"\nname = \"steer\"\n\
    [[program.entry]]\nmap = \"sockets\"\nkey = 3\nsocket = \"web\"\n";

fn start() -> Running {
    Running::start_in(None, CONFIG).unwrap_or_else(|ended| panic!("{ended:?}"))
}

/// One request by hand, so that the client is not what is tested.
fn request(running: &Running, method: &str, path: &str, body: &[u8]) -> (u16, String) {
    let mut stream = UnixStream::connect(running.client().socket()).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A body that is refused for its length may not be read to its end.
    let _ = stream.write_all(body);
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    (head[9..12].parse().unwrap(), body.to_owned())
}

fn ask(running: &Running, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
    let (status, text) = request(running, method, path, body);
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn description() -> Value {
    serde_json::from_str(api::DESCRIPTION).unwrap()
}

/// Says where a value is not what its schema allows.
fn mismatch(value: &Value, schema: &Value, whole: &Value) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = whole.pointer(&name[1..]).unwrap_or_else(|| panic!("no {name}"));
        return mismatch(value, schema, whole);
    }
    if let Some(all) = schema["allOf"].as_array() {
        return all.iter().find_map(|schema| mismatch(value, schema, whole));
    }
    if let Some(one) = schema["oneOf"].as_array() {
        let fits = one.iter().filter(|schema| mismatch(value, schema, whole).is_none()).count();
        return (fits != 1).then(|| format!("{value} fits {fits} of {schema}"));
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    let is = |kind: &Value| match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the test knows no {other}"),
    };
    if !kinds.iter().any(is) {
        return Some(format!("{value} is not {kinds:?}"));
    }
    if let Some(items) = value.as_array() {
        return items.iter().find_map(|item| mismatch(item, &schema["items"], whole));
    }
    let members = value.as_object()?;
    let missing = schema["required"].as_array().into_iter().flatten();
    let missing = missing.map(|key| key.as_str().unwrap()).find(|key| !members.contains_key(*key));
    if let Some(key) = missing {
        return Some(format!("{value} has no {key}"));
    }
    members.iter().find_map(|(key, value)| {
        let schema = match &schema["properties"][key] {
            Value::Null => &schema["additionalProperties"],
            schema => schema,
        };
        match schema {
            Value::Null => Some(format!("{key} is not described")),
            Value::Bool(true) => None,
            schema => mismatch(value, schema, whole).map(|what| format!("{key}: {what}")),
        }
    })
}

/// Asks, and holds the answer to its description.
fn described(running: &Running, method: &str, route: &str, path: &str, body: &[u8]) -> Value {
    let whole = description();
    let (status, answer) = ask(running, method, path, body);
    assert_eq!(status, 200, "{method} {path}: {answer}");
    let content = &whole["paths"][route][method.to_lowercase()]["responses"]["200"]["content"];
    let schema = &content["application/json"]["schema"];
    if let Some(what) = mismatch(&answer, schema, &whole) {
        panic!("{method} {path}: {what}");
    }
    answer
}

fn refused(running: &Running, method: &str, path: &str, body: &[u8], status: u16) -> String {
    let whole = description();
    let (got, answer) = ask(running, method, path, body);
    assert_eq!(got, status, "{method} {path}: {answer}");
    let schema = &whole["components"]["schemas"]["Refusal"];
    assert_eq!(mismatch(&answer, schema, &whole), None, "{method} {path}");
    assert_ne!(answer["help"], "");
    answer["error"].as_str().unwrap().to_owned()
}

#[test]
fn routes_and_description_agree() {
    let served: BTreeSet<(String, String)> = api::routes()
        .into_iter()
        .map(|(method, path, _)| (path.to_owned(), method.to_owned()))
        .collect();
    let description = description();
    let described: BTreeSet<(String, String)> = description["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (path.clone(), method.clone()))
        })
        .collect();
    assert_eq!(served, described);
}

#[test]
fn every_answer_is_as_described() {
    let weir = start();
    let same = |path: &str| described(&weir, "GET", path, path, b"");
    assert_eq!(same("/v1/status")["workers"].as_array().unwrap().len(), 2);
    assert_eq!(same("/v1/stats")["total"]["received"], 0);
    assert_eq!(same("/v1/sockets")[0]["local"], "192.0.2.1:80");
    assert_eq!(same("/v1/objects")[0]["source"], "builtin:steer");
    assert_eq!(same("/v1/programs")[0]["links"], json!([1]));
    assert_eq!(same("/v1/links")[0]["configured"], true);
    assert_eq!(same("/v1/maps")[0]["type"], "lpm_trie");
    assert_eq!(same("/openapi.json"), description());

    let entries = "/v1/maps/{map}/entries";
    let key = "udp,192.0.2.0/24,80";
    let update = json!({"key": key, "value": "3"}).to_string();
    described(&weir, "PUT", entries, "/v1/maps/bindings/entries", update.as_bytes());
    let dump = described(&weir, "GET", entries, "/v1/maps/1/entries?limit=5", b"");
    assert_eq!(dump["entries"], json!([{"key": key, "values": ["3"]}]));
    let sockets = described(&weir, "GET", entries, "/v1/maps/sockets/entries", b"");
    assert_eq!(sockets["entries"], json!([{"key": "3", "values": ["web"]}]));
    let path = "/v1/maps/bindings/entries?key=udp%2C192.0.2.0%2F24%2C80";
    described(&weir, "DELETE", entries, path, b"");
    assert!(refused(&weir, "DELETE", path, b"", 404).contains("ENOENT"));

    let object = weir_progs::by_name("lookup_drop").unwrap();
    let object = described(&weir, "POST", "/v1/objects", "/v1/objects?name=drop.o", object);
    let (id, program) = (&object["id"], &object["programs"][0]["id"]);
    let attach = json!({"program": program.to_string()}).to_string();
    let links = described(&weir, "POST", "/v1/links", "/v1/links", attach.as_bytes());
    assert_eq!(links[1]["configured"], false, "after the configured one: {links}");
    let busy = refused(&weir, "DELETE", &format!("/v1/objects/{id}"), b"", 409);
    assert!(busy.contains("EBUSY"), "{busy}");
    let reloading = described(&weir, "POST", "/v1/reload", "/v1/reload", b"");
    assert_eq!(reloading["links"], 2, "a reload leaves alone what the API attached");
    let link = format!("/v1/links/{}", links[1]["id"]);
    assert_eq!(
        described(&weir, "DELETE", "/v1/links/{id}", &link, b"").as_array().unwrap().len(),
        1
    );
    described(&weir, "DELETE", "/v1/objects/{id}", &format!("/v1/objects/{id}"), b"");
    let ended = weir.terminate();
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
fn every_refusal_has_its_type() {
    let weir = start();
    let refused =
        |method: &str, path: &str, body: &[u8], status| refused(&weir, method, path, body, status);
    refused("GET", "/v1/nothing", b"", 404);
    refused("POST", "/v1/stats", b"", 405);
    refused("POST", "/v1/links", b"{", 400);
    refused("POST", "/v1/links", br#"{"program": "1", "extra": 1}"#, 400);
    refused("POST", "/v1/links", br#"{"program": "none"}"#, 404);
    refused("DELETE", "/v1/links/99", b"", 404);
    refused("DELETE", "/v1/links/one", b"", 400);
    refused("GET", "/v1/maps/none/entries", b"", 404);
    refused("GET", "/v1/maps/sockets/entries?limit=many", b"", 400);
    refused("DELETE", "/v1/maps/sockets/entries", b"", 400);
    refused("PUT", "/v1/maps/sockets/entries", br#"{"key": "0", "value": "1"}"#, 400);
    refused("PUT", "/v1/maps/sockets/entries", br#"{"key": "0", "socket": "none"}"#, 400);
    refused("PUT", "/v1/maps/bindings/entries", br#"{"key": "0"}"#, 400);
    refused("POST", "/v1/objects", b"", 400);
    refused("POST", "/v1/objects", b"not an ELF object", 400);
    refused("POST", "/v1/objects?builtin=none", b"", 404);
    refused("POST", "/v1/objects?other=1", b"x", 400);
    refused("DELETE", "/v1/objects/1", b"", 409);
    let far =
        refused("PUT", "/v1/maps/sockets/entries", br#"{"key": "1024", "socket": "web"}"#, 409);
    assert!(far.contains("E2BIG"), "{far}");
    let taken = br#"{"key": "3", "socket": "web", "flags": 1}"#;
    let taken = refused("PUT", "/v1/maps/sockets/entries", taken, 409);
    assert!(taken.contains("EEXIST"), "{taken}");
    refused("POST", "/v1/objects", &vec![0; weir_control::steering::OBJECT_MAX + 1], 413);
}

#[test]
fn a_bad_reload_is_refused_and_the_old_goes_on() {
    let running = start();
    let socket = running.client().socket().to_str().unwrap().to_owned();
    let good = std::fs::read_to_string(running.config()).unwrap();
    for (bad, reason) in [
        (good.replace("192.0.2.1:80", "192.0.2.1:0"), "port 0"),
        (good.replace("queues = 2", "queues = 1"), "cannot change while Weir runs"),
        (good.replace("key = 3", "key = 9999"), "E2BIG"),
        (good.replace("builtin:steer", "builtin:gone"), "no built-in object"),
    ] {
        std::fs::write(running.config(), bad).unwrap();
        let reload = weir(&["reload", "--socket", &socket]);
        assert_eq!(reload.status.code(), Some(1));
        assert!(reload.stderr.contains(reason), "{reload:?}");
        let dump = described(&running, "GET", "/v1/maps/{map}/entries", "/v1/maps/2/entries", b"");
        assert_eq!(dump["entries"], json!([{"key": "3", "values": ["web"]}]));
    }
    let status = described(&running, "GET", "/v1/status", "/v1/status", b"");
    assert_eq!(status["last_reload_success"], false);

    let id = |running: &Running| running.socket("web").id;
    let before = id(&running);
    let more = "[[socket]]\nname = \"api\"\naddress = \"[::]:53\"\nservice = \"discard\"\n";
    let moved = good.replace("key = 3", "key = 4");
    std::fs::write(running.config(), format!("{moved}{more}")).unwrap();
    assert!(weir(&["reload", "--socket", &socket]).status.success());
    assert_eq!(id(&running), before, "an unchanged socket keeps its id");
    assert_eq!(running.socket("api").service, "discard");
    let dump = described(&running, "GET", "/v1/maps/{map}/entries", "/v1/maps/2/entries", b"");
    assert_eq!(dump["entries"], json!([{"key": "4", "values": ["web"]}]));

    std::fs::write(running.config(), good.replace("\"echo\"", "\"discard\"")).unwrap();
    assert!(weir(&["reload", "--socket", &socket]).status.success());
    assert_ne!(id(&running), before, "a changed socket is another one");
    assert_eq!(running.stats().workers[0].sockets, 1, "and the old ones are closed");
}

#[test]
fn prometheus_has_nothing_to_say_against_the_metrics() {
    let running = start();
    let (status, text) = request(&running, "GET", "/metrics", b"");
    assert_eq!(status, 200);
    for series in [
        "weir_packets_received_total{worker=\"0\",queue=\"0\"} 0",
        "weir_packets_dropped_total{worker=\"1\",queue=\"1\",reason=\"no_socket\"} 0",
        "weir_program_verdicts_total{program=\"steer\",link=\"1\",verdict=\"pass\"} 0",
        "weir_socket_packets_received_total{socket=\"web\"} 0",
        "weir_batch_frames_bucket{worker=\"0\",queue=\"0\",le=\"+Inf\"} 0",
        "weir_device_info{interface=\"\",queue=\"0\",mode=\"memory\"} 1",
        "weir_config_last_reload_success 1",
    ] {
        assert!(text.lines().any(|line| line == series), "no {series} in\n{text}");
    }
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        println!("skipped: promtool is not installed (`make setup` installs it)");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn metrics_and_nothing_else_are_served_over_tcp() {
    let config = CONFIG.replace("[[socket]]", "metrics = \"127.0.0.1:19464\"\n[[socket]]");
    let _running = Running::start_in(None, &config).unwrap_or_else(|ended| panic!("{ended:?}"));
    let get = |path: &str| {
        let mut stream = TcpStream::connect("127.0.0.1:19464").unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert!(get("/metrics").contains("\nweir_sockets 1\n"));
    assert!(get("/v1/status").starts_with("HTTP/1.1 404"));
}

#[test]
fn the_command_prints_json_and_tables() {
    let running = start();
    let socket = running.client().socket().to_str().unwrap().to_owned();
    let run = |words: &[&str]| {
        let ended = weir(&[words, &["--socket", &socket]].concat());
        assert!(ended.status.success(), "{words:?}: {ended:?}");
        ended.stdout.join("\n")
    };
    for words in [
        &["ss"][..],
        &["stats"],
        &["prog", "list"],
        &["map", "list"],
        &["map", "dump", "sockets"],
        &["map", "update", "bindings", "udp,198.51.100.1/32,all", "3"],
        &["map", "update", "sockets", "7", "--to-socket", "web"],
        &["map", "delete", "sockets", "7"],
        &["prog", "load", "builtin:lookup_drop"],
        &["reload"],
    ] {
        assert!(!run(words).is_empty(), "{words:?}");
        if words != ["map", "delete", "sockets", "7"] {
            let json = run(&[words, &["--json"]].concat());
            assert!(serde_json::from_str::<Value>(&json).is_ok(), "{words:?}: {json}");
        }
    }
    assert!(run(&["ss"]).contains("web"));
    let usage = weir(&["prog", "fly"]);
    assert_eq!(usage.status.code(), Some(2));
    let nobody = weir(&["ss", "--socket", "/nonexistent/weir.sock"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(nobody.stderr.starts_with("error: no Weir answers"), "{nobody:?}");
    assert!(nobody.stderr.contains("\nhelp: "), "{nobody:?}");
}

#[test]
fn a_second_weir_does_not_steal_the_socket() {
    let first = start();
    let config = std::fs::read_to_string(first.config()).unwrap();
    // The text names the first one's socket; `{socket}` in a comment keeps it so.
    let second = Running::start_in(None, &format!("# {{socket}}\n{config}"))
        .err()
        .expect("the socket is taken");
    assert_eq!(second.status.code(), Some(1));
    assert!(second.stderr.contains("another Weir answers on"), "{second:?}");
    assert_eq!(first.stats().total.received, 0, "the first goes on");
}
