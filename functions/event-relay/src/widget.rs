//! The widget `trains`: what runs in each target, and what each wave waits for, as HTML.

mod drawing;
mod target;
mod wave;

use maud::{Markup, html};
use sekisho_board::{Console, Tone, Viewer, note, outside, page, tag};
use sekisho_domain::route::{Target, TargetId};

use self::drawing::Drawing;
use self::target::Cell;
use crate::train::{Condemned, Judge};
use crate::train_text::TrainView;

/// The most condemned revisions that a train shows.
const CONDEMNED_SHOWN: usize = 3;

/// The documentation of the widget.
pub(crate) const DOCUMENTATION: &str = "\
# Sekisho: trains

Shows what runs in each target, and what each wave waits for.

| parameter | meaning |
| --- | --- |
| `widget` | `trains`; may be left out |
| `route` | the name of the only route to show; all routes without it |

```yaml
widget: trains
route: shop
```

Waves are columns. A target's color is the revision that runs there. Its words say in which state it is and for how
long, and since when the revision runs; the time is unknown until the target's pipeline-starter has deployed once with
this version. Accounts have the names of `[access.accounts]` in the configuration. A wave with many targets shows counts,
and each target that needs attention. The widget only reads.
";

/// The HTML of the widget. `unreadable` has the names of the routes whose trains cannot be read.
pub(crate) fn trains(viewer: &Viewer, partition: &str, trains: &[TrainView<'_>], unreadable: &[&str]) -> String {
    let body = html! {
        @if trains.is_empty() && unreadable.is_empty() { (note("No route leads to a target from this region.")) }
        @for name in unreadable {
            p.why { (tag(Tone::Odd, "unreadable")) " The ledger's row of the train " (outside(name)) ": fix or delete it" }
        }
        @for train in trains { (self::train(&Drawing::new(viewer, Console { partition }, train))) }
        @if !trains.is_empty() {
            p.muted {
                "A change goes through the waves from left to right. A box is a target: the color at its side is the \
                 revision that runs there, and the word on a colored ground is what its newest order does."
            }
        }
    };
    page(viewer, &body)
}

fn train(drawing: &Drawing<'_>) -> Markup {
    let view = drawing.view;
    let holds = view.row.holds.iter().filter(|hold| hold.is_active(view.now) && view.row.holds_train(hold));
    let condemned = view.row.condemned.len();
    html! {
        section.card {
            h2 { (outside(view.route.name())) }
            (newest(drawing))
            @for hold in holds { p.why { "Everything is " (drawing.hold(hold)) } }
            @if view.route.waves().is_empty() {
                (plain(drawing))
            } @else {
                div.cols { @for wave in view.route.waves() { (wave::column(drawing, wave)) } }
            }
            @for one in view.row.condemned.iter().rev().take(CONDEMNED_SHOWN) { (self::condemned(drawing, one)) }
            @if condemned > CONDEMNED_SHOWN {
                p.muted { (condemned - CONDEMNED_SHOWN) " more condemned revisions: see " code { "train" } }
            }
        }
    }
}

fn newest(drawing: &Drawing<'_>) -> Markup {
    match drawing.view.row.newest() {
        None if drawing.view.route.waves().is_empty() => html! {
            p.muted { "This route has no waves: its targets get every new head at once." }
        },
        None => html! { p.muted { "No change yet." } },
        Some(newest) => html! {
            p {
                "Newest: " (drawing.change(&newest.change)) " " (outside(newest.change.source_ref.name()))
                ", " span.muted { "seen " (drawing.viewer.age(newest.seen)) " ago" }
            }
        },
    }
}

/// The targets of a route without waves.
fn plain(drawing: &Drawing<'_>) -> Markup {
    let ids: Vec<TargetId> = drawing.view.route.targets().iter().map(Target::id).collect();
    let cells: Vec<Cell<'_>> = ids.iter().map(|id| Cell::plain(id, drawing.row(id))).collect();
    target::cells(drawing, &cells, None)
}

fn condemned(drawing: &Drawing<'_>, condemned: &Condemned) -> Markup {
    let change = drawing.view.row.change(condemned.seen).map(|one| &one.change);
    html! {
        p {
            (tag(Tone::Bad, "condemned")) " "
            @match change {
                Some(change) => { (drawing.change(change)) " " (outside(change.source_ref.name())) }
                None => { code { (condemned.revision.short()) } }
            }
            @match &condemned.by {
                Judge::Wave(wave) => { " in " (outside(wave)) }
                Judge::Person(None) => { " by a person" }
                Judge::Person(Some(person)) => { " by " (outside(person)) }
            }
            ", " (drawing.viewer.age(condemned.at)) " ago: " (outside(&condemned.reason))
        }
    }
}
