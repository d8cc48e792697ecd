use model::net::Protocol;

use super::*;

fn set(elements: &[(&str, &str)]) -> Set {
    Set {
        is_map: elements.iter().any(|(_, value)| !value.is_empty()),
        head: "type ipv4_addr;".to_owned(),
        dynamic: false,
        elements: elements.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}

fn chain(rules: &[&str]) -> Chain {
    Chain { hook: None, rules: rules.iter().map(|rule| (*rule).to_owned()).collect() }
}

fn slots(last: &[&str]) -> Flat {
    let mut builder = FlatBuilder::default();
    builder.add(Key::Id(0x8000_0002), Value::Slots(["10.0.0.9:1".parse().unwrap()].into()));
    let last: Vec<_> = last.iter().map(|text| text.parse().unwrap()).collect();
    builder.add(Key::Id(0x8000_0001), Value::Slots(last.into()));
    builder.build(true, "typeof x;")
}

fn with_slots(last: &[&str]) -> Table {
    Table { flat: [("slots".to_owned(), slots(last))].into(), ..Table::default() }
}

#[test]
fn a_load_replaces_the_table_whole() {
    let mut table = with_slots(&["10.0.0.1:80", "10.0.0.2:80"]);
    table.sets.insert("s".into(), set(&[("10.0.0.1", ""), ("10.0.0.2", "")]));
    let hook = Some("type filter hook input priority 0; policy accept;".to_owned());
    table.chains.insert("c".into(), Chain { hook, ..chain(&["ip saddr @s drop"]) });
    let expected = "\
add table inet tidegate
delete table inet tidegate
table inet tidegate {
\tset s {
\t\ttype ipv4_addr;
\t\telements = {
\t\t\t10.0.0.1,
\t\t\t10.0.0.2
\t\t}
\t}

\tmap slots {
\t\ttypeof x;
\t}

\tchain c {
\t\ttype filter hook input priority 0; policy accept;
\t\tip saddr @s drop
\t}

}
add element inet tidegate slots {
\t8000:1 . 0 : 10.0.0.1 . 80,
\t8000:1 . 1 : 10.0.0.2 . 80,
\t8000:2 . 0 : 10.0.0.9 . 1
}
";
    assert_eq!(table.load(), expected);
}

#[test]
fn equal_tables_need_no_change() {
    let table = with_slots(&["10.0.0.1:80"]);
    assert_eq!(table.change_from(&table.clone()), None);
    assert_eq!(Table::default().change_from(&Table::default()), None);
}

#[test]
fn one_slot_s_change_is_one_element() {
    let (old, new) =
        (with_slots(&["10.0.0.1:80", "10.0.0.2:80"]), with_slots(&["10.0.0.1:80", "10.0.0.3:80"]));
    let expected = "\
delete element inet tidegate slots { 8000:1 . 1 }
add element inet tidegate slots { 8000:1 . 1 : 10.0.0.3 . 80 }
";
    assert_eq!(new.change_from(&old).as_deref(), Some(expected));
    let shorter = with_slots(&["10.0.0.1:80"]);
    let expected = "delete element inet tidegate slots { 8000:1 . 1 }\n";
    assert_eq!(shorter.change_from(&old).as_deref(), Some(expected));
}

#[test]
fn chains_come_before_elements_that_lead_to_them_and_go_after() {
    let mut old = Table::default();
    old.sets.insert("m".into(), set(&[("10.0.0.1", "goto a")]));
    old.chains.insert("a".into(), chain(&["drop"]));
    let mut new = Table::default();
    new.sets.insert("m".into(), set(&[("10.0.0.1", "goto b")]));
    new.chains.insert("b".into(), chain(&["accept"]));
    let expected = "\
flush chain inet tidegate a
add chain inet tidegate b
delete element inet tidegate m { 10.0.0.1 }
add element inet tidegate m { 10.0.0.1 : goto b }
add rule inet tidegate b accept
delete chain inet tidegate a
";
    assert_eq!(new.change_from(&old).as_deref(), Some(expected));
}

#[test]
fn a_set_of_another_type_is_made_anew_with_the_rules_that_refer_to_it() {
    let mut old = Table::default();
    old.sets.insert("s".into(), set(&[("10.0.0.1", "")]));
    old.chains.insert("c".into(), chain(&["ip saddr @s drop"]));
    old.chains.insert("d".into(), chain(&["ip saddr @s2 drop"]));
    let mut new = old.clone();
    new.sets.insert(
        "s".into(),
        Set { head: "type ipv4_addr; flags interval;".into(), ..set(&[("10.0.0.0/8", "")]) },
    );
    let expected = "\
flush chain inet tidegate c
delete set inet tidegate s
add set inet tidegate s { type ipv4_addr; flags interval; }
add element inet tidegate s { 10.0.0.0/8 }
add rule inet tidegate c ip saddr @s drop
";
    assert_eq!(new.change_from(&old).as_deref(), Some(expected));
}

#[test]
fn elements_of_dynamic_sets_stay_and_can_be_carried_over() {
    let dynamic = Set { dynamic: true, head: "type ipv4_addr; flags dynamic;".into(), ..set(&[]) };
    let mut old = Table::default();
    old.sets.insert("d".into(), dynamic);
    assert_eq!(old.change_from(&old.clone()), None);
    let carried = [
        ("d".to_owned(), vec!["10.0.0.1 timeout 9s expires 5s".to_owned()]),
        ("gone".to_owned(), vec!["10.0.0.2".to_owned()]),
    ];
    let text = old.load_with(&carried.into());
    assert!(text.contains("elements = {\n\t\t\t10.0.0.1 timeout 9s expires 5s\n"), "{text}");
    assert!(!text.contains("10.0.0.2"), "{text}");
}

#[test]
fn merging_joins_rules_and_elements_of_the_same_name() {
    let mut table = Table::default();
    table.sets.insert("s".into(), set(&[("10.0.0.1", "")]));
    table.chains.insert("c".into(), chain(&["accept"]));
    let mut other = Table::default();
    other.sets.insert("s".into(), set(&[("10.0.0.2", "")]));
    other.chains.insert("c".into(), chain(&["drop"]));
    other.chains.insert("e".into(), chain(&[]));
    table.merge(other);
    assert_eq!(table.sets["s"].elements.len(), 2);
    assert_eq!(table.chains["c"].rules, ["accept", "drop"]);
    assert!(table.chains.contains_key("e"));
}

#[test]
fn of_several_elements_with_one_key_the_first_stays() {
    let mut builder = FlatBuilder::default();
    let key = Key::Port(Protocol::Udp, 53);
    builder.add(key.clone(), Value::Id(1));
    builder.add(key.clone(), Value::Id(2));
    let flat = builder.build(true, "");
    assert_eq!((flat.len(), flat.get(&key)), (1, Some(&Value::Id(1))));
}
