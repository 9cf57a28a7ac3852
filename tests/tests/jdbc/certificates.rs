//! Users whom PostgreSQL knows by their certificate, without a password.

use sluice_tests::postgres::Postgres;

use crate::{failed, run, select};

const SECRET: &str = "hush-hush";

pub fn are_users() {
    let p = &Postgres::started();
    p.execute("CREATE ROLE certified LOGIN; CREATE TABLE seen (n int); INSERT INTO seen VALUES (1); GRANT ALL ON seen TO certified");
    let ours = p.client_certificate("certified", SECRET, "");
    let other = p.client_certificate("somebody", SECRET, "extendedKeyUsage=clientAuth");
    let file = |name: &str| ours.join(name).display().to_string();
    let (crt, pem, der, store) = (file("client.crt"), file("client.key"), file("client.pk8"), file("client.p12"));
    let (stranger, their_key) = (other.join("client.crt").display().to_string(), other.join("client.key").display().to_string());
    let table = |mode: &str, identity: &str| {
        let url = format!("{}?user=certified&sslmode={mode}&sslrootcert={}{identity}", p.place(), p.authority().display());
        format!("CREATE TABLE t (n INT) WITH ('connector' = 'jdbc', 'url' = '{url}', 'table-name' = 'seen');")
    };
    let read = |mode: &str, identity: &str| table(mode, identity) + " SELECT * FROM t;";
    let pair = format!("&sslcert={crt}&sslkey={pem}");
    for (mode, identity) in [
        ("require", pair.clone()),
        ("verify-ca", pair.clone()),
        ("verify-full", pair.clone()),
        ("verify-full", format!("&sslcert={crt}&sslkey={der}")),
        ("verify-full", format!("&sslkey={store}&sslpassword={SECRET}")),
    ] {
        assert_eq!(select(&read(mode, &identity), &[]), ["[1]"], "{mode}{identity}");
    }
    run(&(table("verify-full", &pair) + " INSERT INTO t VALUES (2);"), &[]);
    assert_eq!(p.query("SELECT n FROM seen ORDER BY n"), [["1"], ["2"]]);
    for (identity, wanted) in [
        (String::new(), "requires a valid client certificate"),
        (format!("&sslcert={stranger}&sslkey={their_key}"), "certificate authentication failed for user \"certified\""),
        (format!("&sslcert={stranger}&sslkey={pem}"), "'sslcert' and 'sslkey'"),
        (format!("&sslcert={crt}"), "given together"),
        (format!("&sslcert={crt}&sslkey={crt}"), "no private key"),
        (format!("&sslcert=/none.crt&sslkey={pem}"), "/none.crt"),
        (format!("&sslkey={store}&sslpassword=hush-wrong"), "client.p12"),
    ] {
        let (_, err) = failed(&read("verify-full", &identity), &[]);
        assert!(err.contains(wanted) && !err.contains("hush"), "{identity}: {err}");
    }
}
