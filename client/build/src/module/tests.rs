use super::*;

/// A module of these sections; a name, and whether it is a function, for each export.
fn module(import: (&str, &str), exports: &[(&str, bool)], data: &[(i32, &[u8])]) -> Vec<u8> {
    let name = |name: &str| list(name.len(), name.as_bytes());
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    section(&mut wasm, 1, &[1, 0x60, 0, 0]);
    section(&mut wasm, 2, &[&[1][..], &name(import.0), &name(import.1), &[2, 0, 2]].concat());
    section(&mut wasm, 3, &[1, 0]);
    // One global, as a linker's __heap_base.
    section(&mut wasm, 6, &[1, 0x7f, 0, 0x41, 0, 0x0b]);
    let exports: Vec<_> =
        exports.iter().map(|(text, function)| [name(text), vec![if *function { 0 } else { 3 }, 0]].concat()).collect();
    section(&mut wasm, EXPORTS, &list(exports.len(), &exports.concat()));
    section(&mut wasm, 10, &[1, 2, 0, 0x0b]);
    let mut body = Vec::new();
    for (start, data) in data {
        body.extend([0, 0x41]);
        signed(&mut body, *start);
        body.push(0x0b);
        body.extend(list(data.len(), data));
    }
    section(&mut wasm, DATA, &list(data.len(), &body));
    section(&mut wasm, CUSTOM, &[&name("name")[..], b"anything"].concat());
    wasm
}

const BOTH: &[(&str, bool)] = &[("call", true), ("__heap_base", false), ("deploy", true), ("memset", true)];
const MEMORY: (&str, &str) = ("env", "memory");

/// What memory holds after the segments are written, and how many there are.
fn memory(wasm: &[u8]) -> (Vec<u8>, usize) {
    let (mut memory, mut count) = (vec![0; 2 << 16], 0);
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::DataSection(data) = payload.unwrap() {
            for segment in data {
                let segment = segment.unwrap();
                let at = offset(&segment).unwrap() as usize;
                memory[at..at + segment.data.len()].copy_from_slice(segment.data);
                count += 1;
            }
        }
    }
    (memory, count)
}

#[test]
fn shape_of_a_contract_is_demanded() {
    assert_eq!(inspect(&module(MEMORY, BOTH, &[])), Ok(()));
    let refused = |wasm: &[u8]| inspect(wasm).unwrap_err();
    for (wasm, reason) in [
        (module(("env", "table"), BOTH, &[]), "env.table"),
        (module(MEMORY, &[("call", true), ("deploy", false)], &[]), "export"),
        (module(MEMORY, &[("deploy", true)], &[]), "export"),
        (b"\0asm\x01\0\0\0".to_vec(), "env.memory"),
    ] {
        let error = refused(&wasm);
        assert_eq!(error.known(), Some(Code::BadModule));
        assert!(error.detail.contains(reason), "{error}");
    }
    let good = module(MEMORY, BOTH, &[(8, b"data")]);
    for end in 0..good.len() {
        clean(&good[..end]).ok();
    }
    let whole = (0..good.len()).filter(|end| inspect(&good[..*end]).is_ok()).count();
    assert_eq!(whole, 2, "only data and names may be missing");
}

#[test]
fn only_what_is_read_stays() {
    let wasm = module(MEMORY, BOTH, &[(8, b"data")]);
    let cleaned = clean(&wasm).unwrap();
    inspect(&cleaned).unwrap();
    assert!(cleaned.len() < wasm.len());
    let text = String::from_utf8_lossy(&cleaned).into_owned();
    assert!(text.contains("call") && text.contains("deploy") && text.contains("data"));
    assert!(!text.contains("__heap_base") && !text.contains("memset") && !text.contains("anything"));
    assert_eq!(clean(&cleaned).unwrap(), cleaned, "there is nothing left to drop");
}

#[test]
fn zeros_go_and_memory_is_the_same() {
    let mut long = vec![0; 20_000];
    long[3] = 7;
    long[5] = 8;
    long[9_000..9_010].copy_from_slice(b"0123456789");
    let segments: &[(i32, &[u8])] = &[(65_536, &long), (1_024, b"text"), (100_000, &[0; 1_000])];
    let wasm = module(MEMORY, BOTH, segments);
    let cleaned = clean(&wasm).unwrap();
    assert!(cleaned.len() < 200, "{} bytes", cleaned.len());
    assert_eq!(memory(&cleaned).0, memory(&wasm).0);
    assert_eq!(memory(&cleaned).1, 3, "zeros between 7 and 8 are cheaper than another segment");
}

#[test]
fn overlapping_segments_are_left_alone() {
    let wasm = module(MEMORY, BOTH, &[(0, b"first and longer"), (4, &[0; 100])]);
    let cleaned = clean(&wasm).unwrap();
    assert_eq!(memory(&cleaned), memory(&wasm));
    assert_eq!(memory(&cleaned).0[4..16], [0; 12]);
}

#[test]
fn numbers_are_leb128() {
    let mut bytes = Vec::new();
    number(&mut bytes, 624_485);
    assert_eq!(bytes, [0xe5, 0x8e, 0x26]);
    bytes.clear();
    signed(&mut bytes, -123_456);
    assert_eq!(bytes, [0xc0, 0xbb, 0x78]);
    bytes.clear();
    signed(&mut bytes, 64);
    assert_eq!(bytes, [0xc0, 0x00]);
}
