//! What a virtual machine's guest and its host say to each other, from whoever says it: frames of a process's streams,
//! calls and their answers. Whatever is read is a message or an error, and what was read is written as it was.

#![no_main]

use cofferdam_agent::client::harmless;
use cofferdam_agent::frames::{Attach, FromGuest, ToGuest};
use cofferdam_agent::protocol::{Answer, Call};
use cofferdam_agent::wire;
use libfuzzer_sys::fuzz_target;
use ttrpc::proto::{MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE, Request, Response};

/// What a host takes of an answer, bytes.
const MOST: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let mut rest = bytes;
    match kind % 4 {
        0 => {
            while let Ok(Some(frame)) = FromGuest::read(&mut rest) {
                if let FromGuest::Failed(why) = &frame {
                    let said = harmless(&String::from_utf8_lossy(why));
                    assert!(!said.chars().any(char::is_control));
                }
                let mut again = Vec::new();
                frame.write(&mut again).unwrap();
                assert_eq!(FromGuest::read(&mut again.as_slice()).unwrap(), Some(frame));
            }
        }
        1 => {
            while let Ok(Some(frame)) = ToGuest::read(&mut rest) {
                if let ToGuest::Attach(wanted) = &frame {
                    let _ = serde_json::from_slice::<Attach>(wanted);
                }
                let mut again = Vec::new();
                frame.write(&mut again).unwrap();
                assert_eq!(ToGuest::read(&mut again.as_slice()).unwrap(), Some(frame));
            }
        }
        2 => {
            if let Ok((_, response)) =
                wire::read::<Response>(&mut rest, MESSAGE_TYPE_RESPONSE, MOST)
            {
                let _ = serde_json::from_slice::<Answer>(&response.payload);
            }
            let _ = serde_json::from_slice::<Answer>(bytes);
        }
        _ => {
            if let Ok((_, request)) = wire::read::<Request>(&mut rest, MESSAGE_TYPE_REQUEST, MOST) {
                let _ = serde_json::from_slice::<Call>(&request.payload);
            }
            let _ = serde_json::from_slice::<Call>(bytes);
        }
    }
});
