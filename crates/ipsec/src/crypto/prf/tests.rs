use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn prf_is_hmac() {
    // RFC 4231, 4.2 and 4.3; RFC 2202, 3 (case 2).
    let key = [0x0b; 20];
    let cases = [
        (Prf::HmacSha256, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            Prf::HmacSha384,
            "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
        ),
        (
            Prf::HmacSha512,
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
        ),
    ];
    for (algorithm, expected) in cases {
        assert_eq!(*prf(algorithm, &key, &[b"Hi", b" ", b"There"]), hex(expected));
        assert_eq!(length(algorithm), hex(expected).len());
    }
    let what = b"what do ya want for nothing?";
    assert_eq!(
        *prf(Prf::HmacSha256, b"Jefe", &[what]),
        hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    );
    assert_eq!(
        *prf(Prf::HmacSha1, b"Jefe", &[what]),
        hex("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
    );
}

#[test]
fn prf_plus_chains_blocks() {
    // By Python's hmac.
    let made = prf_plus(Prf::HmacSha256, &[7; 32], &[b"nonce-i", b"nonce-r"], 80);
    assert_eq!(
        *made,
        hex("6cc77b4a2d2b61b2b268c77eb4e5c76a806e434133b78e322ab4299164e51968\
         bbd732fc19da31be315b67daa0e9fade1b5027eab0768a5376d818a5fda86601\
         07fd6b2c675b95c5109e2802d6a62013")
    );
    let made = prf_plus(Prf::HmacSha1, b"k", &[b"seed"], 41);
    assert_eq!(
        *made,
        hex("f104dd6bcf14412a1d69727374e56bb593565b8d46fb41f1846c5fd73bc27cd77c2f2fa666a783cc30")
    );
}

#[test]
fn prf_plus_ends_after_255_blocks() {
    assert_eq!(prf_plus(Prf::HmacSha1, b"k", &[b"seed"], 1_000_000).len(), 255 * 20);
    assert!(prf_plus(Prf::HmacSha1, b"k", &[b"seed"], 0).is_empty());
}
