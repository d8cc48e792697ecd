//! Packets made by another implementation of the RFCs (Python's `cryptography` and `hmac`), with
//! the keys of [`super::keys`], SPI 12345678, and sequence number 5, or 2^32 + 5 where it has 64
//! bits. AEADs have that number for IV with 64 bits, another IV without.

use model::suite::{Encryption, Integrity};

/// Suite, whether numbers have 64 bits, and the packet.
type Vector = (Encryption, Option<Integrity>, bool, &'static str);

#[rustfmt::skip]
pub(super) const VECTORS: [Vector; 20] = [
    (Encryption::Aes128Gcm16, None, false, "123456780000000510111213141516173c639b4d9dcceb26d0213d52742edc2aee07dedfe298aeb8\
     632928e2e803f5a80622701ccdf33db6df96223633e9c9923ecf31a13a40cae6499ef5ca"),
    (Encryption::Aes128Gcm16, None, true, "12345678000000050000000100000005e90be3b4b68445fb7b11804609a18d87a835453b1bfd6042\
     4f39aceb4c94b56eee3c1bb66ac3be1640188935a42eba059e65d851e706e1c2c0d51a3f"),
    (Encryption::Aes256Gcm16, None, false, "123456780000000510111213141516173a2b5c2de3f99a01d8a010a6f18f0de30efdcbbfec4ecce3\
     6d9aee204946e5b0d29687b2dcf5070ab40c7addb0c5d84e146f214d7dd26b9fe6a6045c"),
    (Encryption::Aes256Gcm16, None, true, "123456780000000500000001000000056166b325a01be4dc6a57dbe12865287c1093f62963e0802d\
     459f9101fc64119f11f52fab5c81bbf4ea97df8741ced6c42179f9bc8dfe55ab6f087714"),
    (Encryption::ChaCha20Poly1305, None, false, "1234567800000005101112131415161724db49c20c49e532f479eca61319bc78f846b31cd2715592\
     978b834c3b027dffdd6a0cf6744da6bec73b9250b4f8f51c3cc7d689770e6a92c2086f08"),
    (Encryption::ChaCha20Poly1305, None, true, "12345678000000050000000100000005f7e9f81de42c46818827b383121a9571a1dfcb81653f6802\
     a71731fd267691c145bd9a937f717941fc29350905ce463a7d62516fa97c4411e1cdaee6"),
    (Encryption::Aes128Cbc, Some(Integrity::HmacSha256), false, "1234567800000005a0a1a2a3a4a5a6a7a8a9aaabacadaeafe8a8332de36a38d1623ad489d76c5175\
     b9db78324f229aa1336e4b813e2faef939ef9ac694ab7faf9ff0903fee8f940b22285a63737434ab\
     06ac951e9e9340b9"),
    (Encryption::Aes128Cbc, Some(Integrity::HmacSha256), true, "1234567800000005a0a1a2a3a4a5a6a7a8a9aaabacadaeafe8a8332de36a38d1623ad489d76c5175\
     b9db78324f229aa1336e4b813e2faef939ef9ac694ab7faf9ff0903fee8f940b8427500775590447\
     bc5644c07d48430b"),
    (Encryption::Aes192Cbc, Some(Integrity::HmacSha256), false, "1234567800000005a0a1a2a3a4a5a6a7a8a9aaabacadaeafc22c11c3f8a36d1ef20fc4e3658f7f53\
     22ecbc20c3aaf5f1c073be9a7a76bfd3264f69a22dc65d7ee59c87231ab139c1b8fda8be972031f6\
     610b2a12c00e234b"),
    (Encryption::Aes192Cbc, Some(Integrity::HmacSha256), true, "1234567800000005a0a1a2a3a4a5a6a7a8a9aaabacadaeafc22c11c3f8a36d1ef20fc4e3658f7f53\
     22ecbc20c3aaf5f1c073be9a7a76bfd3264f69a22dc65d7ee59c87231ab139c1adfff3bd82bc6c6b\
     e486614fc775fe3f"),
    (Encryption::Aes256Cbc, Some(Integrity::HmacSha256), false, "1234567800000005a0a1a2a3a4a5a6a7a8a9aaabacadaeaf6bde58044a707fd1fa2b5f398fe52f59\
     eccd3001b43dd1fb725395d9aca1dabff2164f34eb12d51ba3655a01c33552a2a6e66bb26b32fce8\
     dc0bfa9c2d3d29bd"),
    (Encryption::Aes256Cbc, Some(Integrity::HmacSha256), true, "1234567800000005a0a1a2a3a4a5a6a7a8a9aaabacadaeaf6bde58044a707fd1fa2b5f398fe52f59\
     eccd3001b43dd1fb725395d9aca1dabff2164f34eb12d51ba3655a01c33552a262bf465110409809\
     74303416fd63b0f2"),
    (Encryption::Aes256Cbc, Some(Integrity::HmacSha384), false, "1234567800000005a0a1a2a3a4a5a6a7a8a9aaabacadaeaf6bde58044a707fd1fa2b5f398fe52f59\
     eccd3001b43dd1fb725395d9aca1dabff2164f34eb12d51ba3655a01c33552a2a03015bbbc336a05\
     0ad230a97ec6c0645d2ed3eb9573538d"),
    (Encryption::Aes256Cbc, Some(Integrity::HmacSha384), true, "1234567800000005a0a1a2a3a4a5a6a7a8a9aaabacadaeaf6bde58044a707fd1fa2b5f398fe52f59\
     eccd3001b43dd1fb725395d9aca1dabff2164f34eb12d51ba3655a01c33552a27b257d4535150f3d\
     6f112938ca23ca235ef16229cdd87e89"),
    (Encryption::Aes256Cbc, Some(Integrity::HmacSha512), false, "1234567800000005a0a1a2a3a4a5a6a7a8a9aaabacadaeaf6bde58044a707fd1fa2b5f398fe52f59\
     eccd3001b43dd1fb725395d9aca1dabff2164f34eb12d51ba3655a01c33552a224e1942d101c095e\
     a304cb576507d476260701b7e687f3340fb23f9f2908c762"),
    (Encryption::Aes256Cbc, Some(Integrity::HmacSha512), true, "1234567800000005a0a1a2a3a4a5a6a7a8a9aaabacadaeaf6bde58044a707fd1fa2b5f398fe52f59\
     eccd3001b43dd1fb725395d9aca1dabff2164f34eb12d51ba3655a01c33552a2690cfd68f8a1a8d8\
     b0d9079862ec5e1308edec53496c3fbceb1bcd498e1077a8"),
    (Encryption::Aes128Cbc, Some(Integrity::HmacSha1), false, "1234567800000005a0a1a2a3a4a5a6a7a8a9aaabacadaeafe8a8332de36a38d1623ad489d76c5175\
     b9db78324f229aa1336e4b813e2faef939ef9ac694ab7faf9ff0903fee8f940bd0859b44053d9bcd\
     2ce0ba31"),
    (Encryption::Aes128Cbc, Some(Integrity::HmacSha1), true, "1234567800000005a0a1a2a3a4a5a6a7a8a9aaabacadaeafe8a8332de36a38d1623ad489d76c5175\
     b9db78324f229aa1336e4b813e2faef939ef9ac694ab7faf9ff0903fee8f940b350fad11d79facd4\
     44ca4608"),
    (Encryption::TripleDesCbc, Some(Integrity::HmacSha1), false, "1234567800000005a0a1a2a3a4a5a6a773e192c00cb45edd747ca7b6d6f27256bcb82fd5f239eafd\
     044656157b9e054bca74a0cfd0c0dde3fd328a1f3d68d4cb62975a062a8a73529ba7b989"),
    (Encryption::TripleDesCbc, Some(Integrity::HmacSha1), true, "1234567800000005a0a1a2a3a4a5a6a773e192c00cb45edd747ca7b6d6f27256bcb82fd5f239eafd\
     044656157b9e054bca74a0cfd0c0dde3fd328a1f3d68d4cbd4e7557c0579ca3f67acd653"),
];
