#![allow(clippy::unwrap_used)]
use super::*;

/// Status and body of a request to a registry.
async fn ask(store: &Arc<Mutex<Store>>, request: &str) -> (u16, Value) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, api().with_state(store.clone())).into_future());
    let (method_and_path, body) = request.split_once(' ').map(|(m, rest)| (m, rest.split_once(' ').unwrap_or((rest, "")))).unwrap();
    let (path, body) = body;
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let text = format!("{method_and_path} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    server.abort();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap())
}

#[tokio::test]
async fn it_answers_as_confluents_does() {
    let store = Arc::default();
    let a = r#"{"schema": "{\"type\": \"record\", \"name\": \"A\", \"fields\": []}"}"#;
    let same = r#"{"schema": "{\"type\":\"record\",\"name\":\"A\",\"fields\":[]}"}"#;
    let text = "{\"type\": \"record\", \"name\": \"A\", \"fields\": []}";
    let described = json!({"subject": "t-value", "version": 1, "id": 1, "schema": text});
    let not_found = |code: u32, message: &str| json!({"error_code": code, "message": message});
    for (request, status, expected) in [
        ("GET /subjects".to_owned(), 200, json!([])),
        ("GET /subjects/t-value/versions/latest".to_owned(), 404, not_found(40401, "Subject 't-value' not found.")),
        (format!("POST /subjects/t-value/versions {a}"), 200, json!({"id": 1})),
        (format!("POST /subjects/t-value/versions {same}"), 200, json!({"id": 1})),
        (r#"POST /subjects/t-value/versions {"schema": "\"string\""}"#.to_owned(), 200, json!({"id": 2})),
        (format!("POST /subjects/u-value/versions {same}"), 200, json!({"id": 1})),
        ("GET /subjects".to_owned(), 200, json!(["t-value", "u-value"])),
        ("GET /subjects/t-value/versions".to_owned(), 200, json!([1, 2])),
        ("GET /subjects/t-value/versions/1".to_owned(), 200, described.clone()),
        (
            "GET /subjects/t-value/versions/latest".to_owned(),
            200,
            json!({"subject": "t-value", "version": 2, "id": 2, "schema": "\"string\""}),
        ),
        ("GET /subjects/t-value/versions/3".to_owned(), 404, not_found(40402, "Version 3 not found.")),
        (format!("POST /subjects/t-value {same}"), 200, described),
        (r#"POST /subjects/t-value {"schema": "\"int\""}"#.to_owned(), 404, not_found(40403, "Schema not found")),
        ("GET /schemas/ids/1".to_owned(), 200, json!({"schema": text})),
        ("GET /schemas/ids/9".to_owned(), 404, not_found(40403, "Schema 9 not found")),
        (
            "GET /schemas/ids/1/versions".to_owned(),
            200,
            json!([{"subject": "t-value", "version": 1}, {"subject": "u-value", "version": 1}]),
        ),
        ("GET /config".to_owned(), 200, json!({"compatibilityLevel": "NONE"})),
        (r#"PUT /config/t-value {"compatibility": "NONE"}"#.to_owned(), 200, json!({"compatibility": "NONE"})),
        ("DELETE /subjects/t-value".to_owned(), 200, json!([1, 2])),
        ("GET /nowhere".to_owned(), 404, not_found(40400, "HTTP 404 Not Found")),
    ] {
        assert_eq!(ask(&store, &request).await, (status, expected), "{request}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused() {
    let store = Arc::default();
    for (request, status, code) in [
        (r#"POST /subjects/t/versions {"schema": "{nonsense"}"#, 422, 42201),
        (r#"POST /subjects/t/versions {"schema": "7"}"#, 422, 42201),
        (r#"POST /subjects/t/versions {"schema": "\"int\"", "schemaType": "XML"}"#, 422, 42201),
        ("GET /subjects/t/versions/0", 422, 42202),
        (r#"PUT /config {"compatibility": "FULL"}"#, 422, 42203),
    ] {
        let (got, body) = ask(&store, request).await;
        assert_eq!((got, body["error_code"].as_u64()), (status, Some(code)), "{request}: {body}");
    }
}
