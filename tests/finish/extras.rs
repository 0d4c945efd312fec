//! What came besides apps.

use super::*;

#[test]
fn what_came_besides_apps_is_brought_over_and_what_the_box_has_stays() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    let root = case.root();
    let put_json = |name: &str, value: &Value| put(&root, format!("var/lib/lifeboat/{name}.json"), value.to_string());
    let wan = |uuid: &str| format!("[connection]\nid=FreedomBox WAN\nuuid={uuid}\ntype=ethernet\ntimestamp=9\n");
    let folder = "etc/NetworkManager/system-connections";
    put(&root, format!("{folder}/own.nmconnection"), wan("own"));
    put(&root, "sys/class/net/wlan0/address", "");
    let wifi = "[connection]\nid=Home\nuuid=wifi\ntype=wifi\ninterface-name=wlan7\n\n[wifi]\nssid=a=b\nmac-address=1:2\n\n\
                [wifi-security]\npsk=hunter2\n";
    let point = "[connection]\nid=Mine\nuuid=ap\ntype=wifi\ninterface-name=wlan0\n\n[wifi]\nmode=ap\n";
    let connection = |text: &str| json!({"name": text.split(['=', '\n']).nth(2), "text": text});
    let broken = json!({"name": "broken", "text": "hunter2\n"});
    let all = [wan("own"), wan("old"), wifi.to_owned(), point.to_owned()].map(|text| connection(&text));
    let all = [&all[..], &[broken]].concat();
    put_json("networks", &json!({"connections": all}));
    put_json("names", &json!({"host": "oldbox", "domains": ["own.example", "example.org"]}));
    let location = |id: &str, path: &str, kind: &str| {
        json!({"uuid": id, "path": path, "storage_type": kind, "added_by_module": "backups",
               "credentials": {"encryption_passphrase": "hunter2", "ssh_keyfile": "/var/lib/plinth/.ssh/id_ed25519"},
               "schedule": {"enabled": true}})
    };
    let locations = [location("u0", "/media/own", "disk"), location("u1", "me@there:box", "ssh")];
    let keys = json!({"id_ed25519": "the old key", "known_hosts": "there ssh-ed25519 AAAA\n"});
    put_json("backup-locations", &json!({"locations": locations, "keys": keys}));
    put(&root, "var/lib/plinth/.ssh/id_ed25519", "the new key");
    put(&root, "var/lib/plinth/.ssh/known_hosts", "here ssh-ed25519 BBBB\n");
    case.machine(&json!({"online": false}));
    let run = case.finish();
    assert_eq!(run.code, Some(75), "{} {}", run.stderr, run.json);
    let lines = |uuid: &str| fs::read_to_string(root.join(format!("{folder}/{uuid}.nmconnection"))).unwrap_or_default();
    // An own connection stays, another one of that name comes beside it and switched off.
    assert_eq!(lines("own"), wan("own"));
    let (old, wifi, point) = (lines("old"), lines("wifi"), lines("ap"));
    assert!(old.contains("id=FreedomBox WAN (old box)\n") && old.contains("autoconnect=false\n"), "{old}");
    assert!(!old.contains("timestamp"), "{old}");
    assert!(wifi.contains("ssid=a=b\n") && wifi.contains("psk=hunter2\n"), "{wifi}");
    // The adapter of the old box is not here; what may connect must not wait for it.
    assert!(!wifi.contains("wlan7") && !wifi.contains("mac-address") && !wifi.contains("autoconnect"), "{wifi}");
    assert!(point.contains("interface-name=wlan0\n") && point.contains("autoconnect=false\n"), "{point}");
    assert_eq!(sh(&format!("stat -c '%a %u' '{}/{folder}/wifi.nmconnection'", root.display())), "600 0\n");
    assert_eq!(case.state()["loaded"], json!(3));
    let freedombox = case.freedombox();
    assert_eq!(freedombox["hostname"], "oldbox");
    assert_eq!(freedombox["domains"], json!(["own.example", "example.org"]));
    // A name is changed while the service is stopped, and a schedule does not begin while apps wait.
    assert_eq!((&case.state()["up"], &case.state()["stopped"]), (&json!(true), &json!(1)));
    assert_eq!(freedombox["storages"].as_object().unwrap().len(), 1);
    assert_eq!(run.json["extras_waiting"], json!(["backup-locations"]));
    let note = &freedombox["notifications"]["lifeboat-networks"];
    assert_eq!(note["severity"], "error");
    assert!(note["message"].as_str().unwrap().contains("broken was NOT brought over"), "{note}");
    case.machine(&json!({"online": true}));
    let run = case.finish();
    ok(&run);
    case.is_finished().unwrap();
    let storages = case.freedombox()["storages"].clone();
    assert_eq!(storages["u0"]["credentials"], json!({"encryption_passphrase": "its own"}));
    assert_eq!(storages["u1"]["schedule"]["enabled"], true);
    // The box's own key is needed for its own locations.
    assert_eq!(storages["u1"]["credentials"]["ssh_keyfile"], "/var/lib/plinth/.ssh/id_ed25519_old_box");
    let ssh = root.join("var/lib/plinth/.ssh");
    assert_eq!(fs::read_to_string(ssh.join("id_ed25519")).unwrap(), "the new key");
    assert_eq!(fs::read_to_string(ssh.join("known_hosts")).unwrap(), "here ssh-ed25519 BBBB\nthere ssh-ed25519 AAAA\n");
    assert_eq!(sh(&format!("cd '{}'; stat -c '%a %u' id_ed25519_old_box", ssh.display())), "600 130\n");
    for name in ["networks", "names", "backup-locations"] {
        assert!(!root.join(format!("var/lib/lifeboat/{name}.json")).exists(), "{name} still waits");
    }
    let logs = sh(&format!("cat '{}'/var/log/lifeboat/*", root.display()));
    assert!(logs.contains("backup locations: brought over: me@there:box") && !logs.contains("hunter2"), "{logs}");
}

#[test]
fn where_an_app_was_given_up_no_schedule_starts_and_an_older_freedombox_takes_one_domain() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    let root = case.root();
    fs::write(root.join("var/lib/plinth/older-freedombox"), "").unwrap();
    let names = json!({"host": "oldbox", "domains": ["example.org", "other.example"]});
    put(&root, "var/lib/lifeboat/names.json", names.to_string());
    let location = json!({"uuid": "u1", "path": "/media/USB/FreedomBoxBackups", "storage_type": "disk",
                          "schedule": {"enabled": true}});
    let locations = json!({"locations": [location], "keys": {}});
    put(&root, "var/lib/lifeboat/backup-locations.json", locations.to_string());
    case.machine(&json!({"available": ["miniflux", "postgresql"]}));
    let run = case.finish();
    assert_eq!(run.code, Some(1), "{} {}", run.stderr, run.json);
    let besides = run.json["besides"].to_string();
    assert!(besides.contains("other.example was NOT brought over: this FreedomBox has one domain only"), "{besides}");
    let freedombox = case.freedombox();
    assert_eq!((&freedombox["hostname"], &freedombox["domain"]), (&json!("oldbox"), &json!("example.org")));
    assert_eq!(freedombox["storages"]["u1"]["schedule"]["enabled"], false);
    let note = &freedombox["notifications"]["lifeboat-backup-locations"]["message"];
    assert!(note.as_str().unwrap().contains("are switched off"), "{note}");
}
