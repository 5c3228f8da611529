use super::*;
use serde_json::json;

const FLIPPER: &[u8] = include_bytes!("../../../../contracts/fixtures/flipper.contract");
const PSP22: &[u8] = include_bytes!("../../../../contracts/fixtures/psp22.contract");

/// The code of the error that this change of the flipper's bundle leads to.
fn refused(change: impl FnOnce(&mut Value)) -> (Code, String) {
    let mut value: Value = serde_json::from_slice(FLIPPER).unwrap();
    change(&mut value);
    let error = Bundle::parse(&serde_json::to_vec(&value).unwrap()).unwrap_err();
    (error.coded.known().unwrap(), error.coded.detail)
}

#[test]
fn fixture_is_read_and_written_unchanged() {
    let bundle = Bundle::parse(FLIPPER).unwrap();
    assert_eq!((&*bundle.name, &*bundle.version, &*bundle.language), ("flipper", "0.1.0", "ink! 5.1.1"));
    assert_eq!(bundle.code_hash, blake2_256(&bundle.code));
    assert_eq!(Bundle::parse(&bundle.to_json()).unwrap(), bundle);
    let error = Bundle::parse(&bundle.metadata_json()).unwrap_err();
    assert_eq!(error.coded.known(), Some(Code::BadBundle));
}

#[test]
fn entries_have_the_selectors_of_the_standard() {
    let bundle = Bundle::parse(PSP22).unwrap();
    let messages = bundle.messages().unwrap();
    let find = |label: &str| messages.iter().find(|entry| entry.label == label).unwrap();
    for (label, selector, mutates) in [
        ("PSP22::total_supply", 0x162df8c2_u32, false),
        ("PSP22::balance_of", 0x6568382f, false),
        ("PSP22::allowance", 0x4d47d921, false),
        ("PSP22::transfer", 0xdb20f9f5, true),
        ("PSP22::transfer_from", 0x54b3c76e, true),
        ("PSP22::approve", 0xb20f1bbd, true),
        ("PSP22::increase_allowance", 0x96d6b57a, true),
        ("PSP22::decrease_allowance", 0xfecb57d5, true),
        ("PSP22Metadata::token_name", 0x3d261bd4, false),
        ("PSP22Metadata::token_symbol", 0x34205be5, false),
        ("PSP22Metadata::token_decimals", 0x7271b782, false),
    ] {
        assert_eq!((find(label).selector, find(label).mutates), (selector.to_be_bytes(), mutates), "{label}");
    }
    let types: Vec<_> = find("PSP22::transfer").arguments.iter().map(|argument| &*argument.type_name).collect();
    assert_eq!(types, ["AccountId", "u128", "Vec"]);
    assert_eq!(bundle.constructors().unwrap()[0].label, "new");
}

#[test]
fn bundle_of_cargo_contract_is_read() {
    let mut value: Value = serde_json::from_slice(FLIPPER).unwrap();
    value["image"] = Value::Null;
    value["source"]["build_info"] = json!({ "build_mode": "Release", "cargo_contract_version": "5.0.3", "rust_toolchain": "stable", "wasm_opt_settings": {} });
    let bundle = Bundle::parse(&serde_json::to_vec(&value).unwrap()).unwrap();
    assert_eq!(bundle.build_info["cargo_contract_version"], "5.0.3");
    value["source"].as_object_mut().unwrap().remove("build_info");
    Bundle::parse(&serde_json::to_vec(&value).unwrap()).unwrap();
}

#[test]
fn ink_6_is_told_from_rubbish() {
    assert_eq!(refused(|v| v["version"] = json!(6)).0, Code::Ink6);
    assert_eq!(refused(|v| v["version"] = json!("6")).0, Code::Ink6);
    assert_eq!(refused(|v| v["source"]["language"] = json!("ink! 6.0.0-beta.1")).0, Code::Ink6);
    assert_eq!(refused(|v| v["source"]["wasm"] = json!("0x50564d0001")).0, Code::Ink6);
    let binary = |v: &mut Value| {
        let source = v["source"].as_object_mut().unwrap();
        source.remove("wasm");
        source.insert("contract_binary".into(), json!("0x00"));
    };
    assert_eq!(refused(binary).0, Code::Ink6);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let zero = format!("0x{}", "00".repeat(32));
    assert_eq!(refused(|v| v["source"]["hash"] = json!(zero)).0, Code::BadBundle);
    assert_eq!(refused(|v| v["source"]["wasm"] = json!("0xzz")).0, Code::BadBundle);
    assert_eq!(refused(|v| v["version"] = json!(4)).0, Code::BadBundle);
    assert_eq!(refused(|v| v["spec"]["constructors"] = json!([])).0, Code::BadBundle);
    assert_eq!(refused(|v| v["spec"]["messages"][0]["selector"] = json!("0x00")).0, Code::BadBundle);
    assert_eq!(refused(|v| v["spec"] = Value::Null).0, Code::BadBundle);
    let with_code = |v: &mut Value, code: &[u8]| {
        v["source"]["wasm"] = json!(format!("0x{}", hex::encode(code)));
        v["source"]["hash"] = json!(blake2_256(code).to_string());
    };
    assert_eq!(refused(|v| with_code(v, b"\0asm\x01\0\0\0")).0, Code::BadModule);
    assert_eq!(refused(|v| with_code(v, &vec![0; MAX_CODE + 1])).0, Code::CodeTooLarge);
    for bytes in [&b""[..], b"{}", b"[1]", b"\0asm", &FLIPPER[..FLIPPER.len() / 2]] {
        assert_eq!(Bundle::parse(bytes).unwrap_err().coded.known(), Some(Code::BadBundle));
    }
    assert_eq!(Bundle::parse(&vec![b' '; MAX_BUNDLE + 1]).unwrap_err().coded.known(), Some(Code::BadBundle));
    assert_eq!(Bundle::load("/no/such/file").unwrap_err().coded.known(), Some(Code::BadBundle));
}
