//! Loading a catalog.

use super::*;

fn catalog(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("writes");
    file
}

async fn load(url: &str, text: &str) -> Ran {
    let file = catalog(text);
    let path = file.path().to_str().expect("text").to_owned();
    let mut ran = pygmy(url, &["load", &path]).await;
    ran.error = ran.error.replace(&path, "FILE");
    ran
}

#[tokio::test]
async fn a_catalog_is_loaded_once_and_what_exists_is_left_alone() {
    let mock = Mock::start(|seen| match seen.line.as_str() {
        "PUT /v1/items/2" => Say::problem(412, "version_mismatch", Some("not_applied"), false),
        _ => Say::json(201, item(1, "T", 40)),
    })
    .await;
    let ran = load(
        &mock.url,
        "ItemNumber,Title,Topic,Cost,Stock\n1,\"A, and B\",Misc,9.99,4\n2,C,Misc,20,0\n3, D \
        ,Misc,0.5,1\n",
    )
    .await;
    assert_eq!(
        (ran.exit, ran.out.as_str()),
        (Exit::Ok, "2 items created, 1 already there"),
        "{}",
        ran.error
    );
    let mut seen = mock.seen();
    seen.sort_by(|a, b| a.line.cmp(&b.line));
    assert!(seen.iter().all(|request| request.headers["if-none-match"] == "*"));
    assert_eq!(
        seen[0].body,
        json!({"title": "A, and B", "topic": "Misc", "price_cents": 999, "stock": 4})
    );
    assert_eq!(seen[2].body, json!({"title": "D", "topic": "Misc", "price_cents": 50, "stock": 1}));
}

#[tokio::test]
async fn a_wrong_catalog_is_refused_before_anything_is_sent() {
    let mock = Mock::start(|_| Say::json(201, item(1, "T", 40))).await;
    let head = "ItemNumber,Title,Topic,Cost,Stock";
    for (text, words) in [
        (
            format!(
                "{head}\n1,A,Misc,9.999,4\n1,B,Misc,1,1\n2,C,Misc,1,1\n2,D,Misc,1,1\n3,,Misc,1,1\n"
            ),
            "nothing was loaded:\n\
             FILE: row 1: Cost \"9.999\": an amount is written like 19.99\n\
             FILE: row 4: ItemNumber 2 is there twice\n\
             FILE: row 5: Title and Topic must not be empty",
        ),
        (
            format!("{head}\n1,A,Misc,9.99\n"),
            "nothing was loaded:\nFILE: row 1: has 4 fields instead of 5",
        ),
        (
            format!("{head}\n1,A,Misc,9.99,-4\n"),
            "nothing was loaded:\nFILE: row 1: field 4: invalid digit found in string; the \
            columns are \
             ItemNumber,Title,Topic,Cost,Stock",
        ),
        (
            "Number,Title,Topic,Cost,Stock\n1,A,Misc,9.99,4\n".to_owned(),
            "nothing was loaded:\nFILE: row 1: unknown field `Number`, expected one of \
            `ItemNumber`, `Title`, \
             `Topic`, `Cost`, `Stock`; the columns are ItemNumber,Title,Topic,Cost,Stock",
        ),
        (
            format!("{head}\n"),
            "FILE: has no rows; the first line is ItemNumber,Title,Topic,Cost,Stock and an item \
            follows on each",
        ),
    ] {
        let ran = load(&mock.url, &text).await;
        assert_eq!((ran.exit, ran.error.as_str()), (Exit::Usage, words), "{text}");
    }
    assert!(mock.seen().is_empty());
    let ran = pygmy(&mock.url, &["load", "/nowhere.csv"]).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.error.starts_with("/nowhere.csv: cannot be read: No such file"), "{}", ran.error);
}

#[tokio::test]
async fn a_load_that_is_cut_short_says_how_far_it_came() {
    let mock = Mock::start(|seen| match seen.line.as_str() {
        "PUT /v1/items/2" => Say::problem(507, "disk_full", Some("not_applied"), false),
        _ => Say::json(201, item(1, "T", 40)),
    })
    .await;
    let rows: String = (1..=3).map(|id| format!("{id},A,Misc,1,1\n")).collect();
    let ran = load(&mock.url, &format!("ItemNumber,Title,Topic,Cost,Stock\n{rows}")).await;
    assert_eq!(ran.exit, Exit::Unavailable);
    assert!(
        ran.error.contains("of 3 items done") && ran.error.contains("Load the file again"),
        "{}",
        ran.error
    );
}
