//! Pictures that are shown together: the lines of a list that have `images`.

use super::found::At;
use super::kind::Kind;
use super::{Body, Shown};
use crate::file::{self, invalid};
use crate::picture::{self, Room};
use lapidary_schemas::Failure;

/// Reads all of them, once there is room for all; the failure names the one that is to blame.
pub(super) async fn read(places: Vec<At>, name: &str, room: &Room) -> Result<Body, Failure> {
    let mut sizes = Vec::with_capacity(places.len());
    for at in &places {
        sizes.push(match at {
            At::File(path) if Kind::of(path) == Some(Kind::Picture) => {
                file::check(path, &at.shown()).await?
            }
            At::Address(_) => 0,
            _ => {
                let at = at.shown();
                return Err(invalid(format!(
                    "{at} is no picture, and only pictures are shown together"
                )));
            }
        });
    }
    let rooms = room.take_each(&sizes, name).await?;
    let mut shown = Vec::with_capacity(places.len());
    for ((at, bytes), room) in places.into_iter().zip(sizes).zip(rooms) {
        let name = at.shown();
        shown.push(match at {
            At::File(path) => {
                let picture = picture::read_into(room, &path, 0..bytes, &name);
                Shown::Picture(picture.await?)
            }
            _ => Shown::Address(name),
        });
    }
    Ok(Body::Pictures(shown))
}
