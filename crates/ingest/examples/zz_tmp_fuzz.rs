use ingest::manifest::{Memo, parse, parse_with};
struct D(u64);
impl D {
    fn b(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }
}
const T: &[&str] = &[
    "a",
    "b: ",
    "\n",
    "\n",
    "\n",
    " ",
    "  ",
    "    ",
    "- ",
    "? ",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    ",",
    "---\n",
    "\n---\n",
    "\n---\n",
    "\n--- ",
    "--- ",
    "---",
    "...\n",
    "\n...\n",
    "...",
    "#",
    "# c\n",
    "|\n",
    ">\n",
    "|+\n",
    "|-\n",
    "|2\n",
    ">1-\n",
    "*a",
    "&a ",
    "&a",
    "&",
    "!",
    "!!str ",
    "!!merge ",
    "<<: ",
    "%",
    "%YAML 1.2\n",
    "\r\n",
    "\r",
    "\t",
    "\u{feff}",
    "\0",
    "ä",
    "\u{2028}",
    "\u{85}",
    "~",
    "null",
    "1",
    "0x1: ",
    "1: ",
    "apiVersion: v1\n",
    "kind: Service\n",
    "metadata: {name: a}\n",
    "kind: Secret\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: b}\n",
    "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: c\n",
    "stringData:\n  a: |+\n    x\n\n",
    "\\",
    "\\n\\\n",
    ":",
    "-",
    "@",
    "`",
    "\u{7}",
];
fn main() {
    let n: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let seed: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let mut d = D(seed * 2654435761 + 88172645463325252);
    let (mut inp, mut objs) = (0, 0);
    for _ in 0..n {
        let mut memo = Memo::default();
        let k = 1 + d.b(6);
        let mut parts: Vec<String> = (0..k)
            .map(|_| {
                let m = 1 + d.b(7);
                let mut s =
                    String::from(["---\n", "---\n", "\n---\n", "--- ", "...\n", ""][d.b(6)]);
                for _ in 0..m {
                    s.push_str(T[d.b(T.len())]);
                }
                s.push('\n');
                s
            })
            .collect();
        for _ in 0..4 {
            let t = parts.concat();
            let p = parse_with("f", &t, &mut memo);
            let w = parse("f", &t);
            if p != w {
                println!("MISMATCH {t:?}\n{p:?}\n{w:?}");
                std::process::exit(1);
            }
            if memo.len() > 1 {
                inp += 1;
            }
            objs += p.objects.len();
            let i = d.b(parts.len());
            match d.b(3) {
                0 => {
                    let j = d.b(parts.len());
                    parts.swap(i, j)
                }
                1 => {
                    let x = T[d.b(T.len())];
                    parts[i].push_str(x)
                }
                _ => {
                    let x = parts[i].len();
                    let at = d.b(x + 1);
                    if parts[i].is_char_boundary(at) {
                        let y = T[d.b(T.len())];
                        parts[i].insert_str(at, y)
                    }
                }
            }
        }
    }
    println!("ok {inp} in pieces of {}, {objs} objects", n * 4);
}
