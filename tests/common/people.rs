//! Directories of people as slapd keeps them, made by hand: also as machines of 32 bits write them.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::type_complexity, reason = "this is test code")]

const LEAF: u16 = 2;

/// A database as slapd would write it, with one page per table, on a machine with words of this many bytes.
pub fn database(word: usize, tables: &[(&str, Vec<(Vec<u8>, Vec<u8>)>)]) -> Vec<u8> {
    const PAGE: usize = 4096;
    let number = |value: u64| value.to_le_bytes()[..word].to_vec();
    let none = number(u64::MAX);
    let tree = |root: &[u8]| [vec![0; 8], number(0).repeat(4), root.to_vec()].concat();
    let leaf = |own: u64, entries: &[(Vec<u8>, Vec<u8>, u16)]| {
        let mut page = [number(own), vec![0, 0], LEAF.to_le_bytes().to_vec()].concat();
        let header = word + 8;
        let lower = header + 2 * entries.len();
        let (mut end, mut list, mut nodes) = (PAGE, Vec::new(), Vec::new());
        for (key, value, flags) in entries {
            let mut node = (value.len() as u32).to_le_bytes().to_vec();
            node.extend([flags.to_le_bytes(), (key.len() as u16).to_le_bytes()].concat());
            node.extend(key);
            node.extend(value);
            node.resize(node.len().next_multiple_of(2), 0);
            end -= node.len();
            list.extend((end as u16).to_le_bytes());
            nodes.push(node);
        }
        page.extend([(lower as u16).to_le_bytes(), (end as u16).to_le_bytes()].concat());
        page.extend(list);
        page.resize(end, 0);
        page.extend(nodes.into_iter().rev().flatten());
        page
    };
    let mut pages = vec![Vec::new(), Vec::new(), Vec::new()];
    let mut named = Vec::new();
    for (name, entries) in tables {
        let own = pages.len() as u64;
        pages.push(leaf(own, &entries.iter().map(|(k, v)| (k.clone(), v.clone(), 0)).collect::<Vec<_>>()));
        named.push((name.as_bytes().to_vec(), tree(&number(own)), 2));
    }
    pages[2] = leaf(2, &named);
    for (at, transaction) in [(0, 6), (1, 7)] {
        // The older transaction knows of nothing.
        let root = if transaction == 7 { number(2) } else { none.clone() };
        let mut free = tree(&none);
        free[..4].copy_from_slice(&(PAGE as u32).to_le_bytes());
        let begin = [number(at), vec![0, 0, 8, 0, 0, 0, 0, 0]].concat();
        let marks = [0xbeef_c0de_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat();
        pages[at as usize] =
            [begin, marks, number(0), number(1 << 20), free, tree(&root), number(9), number(transaction)].concat();
        pages[at as usize].resize(PAGE, 0);
    }
    pages.concat()
}

/// An entry in slapd's form: attributes by number, with a normalised copy of the values where that is wanted.
pub fn encoded(attributes: &[(u32, &[&str], bool)]) -> Vec<u8> {
    let (mut numbers, mut values, mut total) = (Vec::new(), Vec::new(), 0);
    for (number, texts, normalised) in attributes {
        numbers.extend([*number, texts.len() as u32 | if *normalised { 1 << 31 } else { 0 }]);
        for _ in 0..if *normalised { 2 } else { 1 } {
            for text in *texts {
                numbers.push(text.len() as u32);
                values.extend(text.as_bytes());
                values.push(0);
                total += 1;
            }
        }
    }
    let header = [attributes.len() as u32, total, 0, numbers.len() as u32];
    header.iter().chain(&numbers).flat_map(|number| number.to_le_bytes()).chain(values).collect()
}

/// People and groups: name, number, password; name, number, members.
pub fn directory(word: usize, people: &[(&str, u32, &str)], groups: &[(&str, u32, &[&str])]) -> Vec<u8> {
    let names = [
        "objectClass",
        "uid",
        "uidNumber",
        "gidNumber",
        "homeDirectory",
        "loginShell",
        "userPassword",
        "cn",
        "memberUid",
    ];
    let names = names.iter().zip(1_u32..).map(|(name, at)| (at.to_le_bytes().to_vec(), name.as_bytes().to_vec()));
    let mut entries = vec![encoded(&[(1, &["top", "organizationalUnit"], false)])];
    for (name, number, password) in people {
        let (number, home) = (number.to_string(), format!("/home/{name}"));
        entries.push(encoded(&[
            (1, &["top", "account", "posixAccount"], false),
            (8, &[name], true),
            (2 | 1 << 31, &[name], true),
            (3, &[&number], false),
            (4, &["100"], false),
            (5, &[&home], true),
            (6, &["/bin/bash"], true),
            (7, &[password], false),
        ]));
    }
    for (name, number, members) in groups {
        let number = number.to_string();
        entries.push(encoded(&[
            (1, &["posixGroup"], false),
            (8, &[name], true),
            (4, &[&number], false),
            (9, members, true),
        ]));
    }
    let ids = entries.into_iter().zip(1_u64..).map(|(entry, id)| (id.to_le_bytes()[..word].to_vec(), entry));
    database(word, &[("ad2i", names.collect()), ("id2e", ids.collect())])
}
