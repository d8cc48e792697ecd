use super::*;
use crate::manifest::{Parsed, parse, parse_with};

/// Documents of every sort: whole and broken ones, Lists, other kinds, and what YAML has to offer
/// at the edges of documents.
const DOCUMENTS: [&str; 36] = [
    "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: other}\n",
    "apiVersion: v1\nkind: Service\nmetadata:\n  name: b\nspec:\n  ports:\n  - port: 80\n    prot: 1\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: c}\nspec:\n  type: A\n  type: B\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: d, name: e}\n",
    "apiVersion: v1\nkind: Service\nmetadata:\n  name: f\nspec: {ports: 80}\n",
    "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: g}\nspec:\n  rules:\n  - host: \"*.example.com\"\n",
    "apiVersion: networking.k8s.io/v1beta1\nkind: Ingress\nmetadata: {name: h}\n",
    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: i}\n",
    "apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a}\n- metadata: {name: j}\n  more: 1\n- 2\n",
    "apiVersion: v1\nkind: List\nitems: x\nitems: y\n",
    "apiVersion: v1\nkind: List\nitems:\n- |\n\n",
    ">\n\n",
    "{\"apiVersion\": \"v1\",\n\t\"kind\": \"Namespace\", \"metadata\": {\"name\": \"k\"}}\n",
    "apiVersion: v1\nkind: Secret\nmetadata: {name: l}\nstringData:\n  a: |\n    x\n    ---\n    y\n\n\n",
    "apiVersion: v1\nkind: Secret\nmetadata: {name: m}\nstringData:\n  a: |+\n    x\n\n\n",
    "apiVersion: v1\nkind: Secret\nmetadata: {name: n}\nstringData:\n  a: >-\n    x\n\n    y\n",
    "apiVersion: v1\r\nkind: Service\r\nmetadata: {name: o}\r\nsecp: 1\r\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: p}\n...\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: q}\n...\napiVersion: v1\nkind: Service\nmetadata: {name: r}\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: s, annotations: {u: \"/?a=1&b=2\", t: fish & chips!}}\n",
    "apiVersion: v1\nkind: Service\nmetadata: &m {name: t}\nspec: *m\n",
    "apiVersion: v1\nkind: Service\n<<: {metadata: {name: u}}\n",
    "!!map\napiVersion: v1\nkind: Service\nmetadata: {name: v}\n",
    "%YAML 1.2\n",
    "11: a\n0xB: b\n",
    "just text\n",
    "\"quoted\n",
    "text\"\n",
    "a: [\n",
    "]\n",
    "|\ntext at the line's beginning\n",
    "# a comment\n",
    "~\n",
    "\n",
    "",
];

/// What a document begins with.
const MARKERS: [&str; 6] = ["---\n", "--- # x\n", "---\r\n", "--- ", "---", "\n"];

/// What a slip of the hand may put anywhere.
const SLIPS: [&str; 16] = [
    "\n", " ", "  ", "-", "---\n", "...\n", "\"", "{", "]", ": ", "#", "&x ", "\r", "\0",
    "\u{feff}", "ä",
];

/// How many of the documents are such that what stands around them is read.
const SOUND: usize = 21;

/// Random numbers, the same every time (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    /// Mostly one that leaves its neighbours readable.
    fn document(&mut self) -> String {
        let documents = if self.below(4) == 0 { &DOCUMENTS[..] } else { &DOCUMENTS[..SOUND] };
        let markers = if self.below(4) == 0 { &MARKERS[..] } else { &MARKERS[..1] };
        let marker = markers[self.below(markers.len())];
        format!("{marker}{}", documents[self.below(documents.len())])
    }

    /// Changes the file as somebody may who edits it.
    fn edit(&mut self, documents: &mut Vec<String>) {
        let (one, other) = (self.below(documents.len()), self.below(documents.len()));
        match self.below(8) {
            0 => documents.swap(one, other),
            1 => documents[one] = self.document(),
            2 => documents.insert(one, self.document()),
            3 if documents.len() > 1 => drop(documents.remove(one)),
            4 => documents[one] = documents[other].clone(),
            5 => {
                let at = self.place(&documents[one]);
                documents[one].truncate(at);
            }
            _ => {
                let at = self.place(&documents[one]);
                documents[one].insert_str(at, SLIPS[self.below(SLIPS.len())]);
            }
        }
    }

    fn place(&mut self, text: &str) -> usize {
        text.floor_char_boundary(self.below(text.len() + 1))
    }
}

#[test]
fn whatever_is_changed_the_outcome_is_as_without_a_memo() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut in_pieces, mut whole) = (0, 0);
    for _ in 0..150 {
        let mut documents: Vec<String> = (0..=dice.below(8)).map(|_| dice.document()).collect();
        let mut sound = documents.clone();
        let mut memo = Memo::default();
        for _ in 0..20 {
            let text = documents.concat();
            let parsed = parse_with("f.yaml", &text, &mut memo);
            assert_eq!(parsed, parse("f.yaml", &text), "{text:?}");
            if memo.read(&text).is_some() {
                in_pieces += 1;
                sound.clone_from(&documents);
            } else {
                whole += 1;
                if dice.below(2) == 0 {
                    documents.clone_from(&sound);
                }
            }
            dice.edit(&mut documents);
        }
    }
    // Neither is the exception.
    assert!(in_pieces > 500 && whole > 500, "{in_pieces} read in pieces, {whole} as a whole");
}

fn service(name: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n")
}

/// Which of the objects are the very same as before.
fn same(before: &Parsed, after: &Parsed) -> Vec<bool> {
    let pairs = before.objects.iter().zip(&after.objects);
    pairs.map(|(before, after)| Arc::ptr_eq(&before.object, &after.object)).collect()
}

#[test]
fn only_documents_that_changed_are_read_again() {
    let mut memo = Memo::default();
    let [a, b, c] = ["a", "b", "c"].map(service);
    let before = parse_with("f.yaml", &format!("{a}{b}{c}"), &mut memo);
    let after = parse_with("f.yaml", &format!("{a}{b}spec: {{}}\n{c}"), &mut memo);
    assert_eq!(same(&before, &after), [true, false, true]);
    let lines =
        |parsed: &Parsed| parsed.objects.iter().map(|e| e.location.line).collect::<Vec<_>>();
    assert_eq!((lines(&before), lines(&after)), (vec![2, 6, 10], vec![2, 6, 11]));
}

#[test]
fn a_torn_text_forgets_nothing() {
    let mut memo = Memo::default();
    let [a, b] = ["a", "b"].map(service);
    let before = parse_with("f.yaml", &format!("{a}{b}"), &mut memo);
    assert!(parse_with("f.yaml", &format!("{a}{b}x: ["), &mut memo).torn);
    let after = parse_with("f.yaml", &format!("{a}{b}"), &mut memo);
    assert_eq!(same(&before, &after), [true, true]);
}

#[test]
fn only_the_latest_documents_are_held() {
    let mut memo = Memo::default();
    for n in 0..10 {
        parse_with(
            "f.yaml",
            &format!("{}{}{}", service("a"), service("a"), service(&format!("b{n}"))),
            &mut memo,
        );
        assert_eq!(memo.len(), 2);
    }
    parse_with("f.yaml", "a: &b c\n", &mut memo);
    assert!(memo.is_empty());
}

#[test]
fn a_memos_debug_text_shows_no_document() {
    let mut memo = Memo::default();
    parse_with("f.yaml", &service("hunter2"), &mut memo);
    assert_eq!(format!("{memo:?}"), "Memo { documents: 1 }");
}
