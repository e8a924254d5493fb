//! The rules that concern several routes: their names, and what the routes to one target have in common.

use std::collections::BTreeMap;

use super::target::{Target, TargetId};
use super::{Route, variable};
use crate::mistake::Mistake;

/// Checks the rules, and gives each target the variables of all routes to it.
pub(super) fn agree(routes: &mut [Route]) -> Result<(), Mistake> {
    unique_names(routes)?;
    one_region(routes)?;
    all_or_none_in_waves(routes)?;
    let variables = merge_variables(routes)?;
    if variables.is_empty() {
        return Ok(());
    }
    for route in routes {
        let of_waves = route.waves.iter_mut().flat_map(|wave| &mut wave.targets);
        for target in route.targets.iter_mut().chain(of_waves) {
            if let Some(merged) = variables.get(&target.id()) {
                let value = |(name, variable): (&String, &Variable)| (name.clone(), variable.value.clone());
                target.variables = merged.iter().map(value).collect();
            }
        }
    }
    Ok(())
}

fn unique_names(routes: &[Route]) -> Result<(), Mistake> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, route) in routes.iter().enumerate() {
        let Some(name) = route.name.as_deref() else { continue };
        if let Some(first) = seen.insert(name, i) {
            let reason = format!("`{name}` is already the name of route[{first}]: write another name");
            return Err(Mistake::new(format!("route[{i}].name"), reason));
        }
    }
    Ok(())
}

/// All routes to one target belong to one region: a target gets its orders from the relay of one region, because only
/// one relay can number them. The file shows this if either no route to the target has a `region`, or all have the same.
fn one_region(routes: &[Route]) -> Result<(), Mistake> {
    if routes.iter().all(|route| route.region.is_none()) {
        return Ok(());
    }
    let mut seen: BTreeMap<TargetId, usize> = BTreeMap::new();
    for (i, route) in routes.iter().enumerate() {
        for id in route.targets.iter().map(Target::id) {
            let Some(&first) = seen.get(&id) else {
                seen.insert(id, i);
                continue;
            };
            let first_region = routes.get(first).and_then(|route| route.region.as_ref());
            let (at, other, reason) = match (route.region.as_ref(), first_region) {
                (here, there) if here == there => continue,
                (Some(here), Some(there)) => (i, first, format!("`{here}`, but route[{first}] has `{there}`")),
                (Some(here), None) => (first, i, format!("missing, but route[{i}] has `{here}`")),
                (None, _) => (i, first, "missing, but another route has it".to_owned()),
            };
            let reason = format!(
                "{reason}, and both lead to the target {id}: all routes to one target belong to one region, so write \
                 the same `region` in route[{at}] and route[{other}]"
            );
            return Err(Mistake::new(format!("route[{at}].region"), reason));
        }
    }
    Ok(())
}

/// A target that one route has in a wave is in a wave of every route to it: a route without waves would order a change
/// at once, whatever the target bakes.
fn all_or_none_in_waves(routes: &[Route]) -> Result<(), Mistake> {
    let keyed = |(i, route): (usize, &'_ Route)| -> Vec<(TargetId, bool, String)> {
        let has_waves = !route.waves.is_empty();
        let targets = route.targets.iter().zip(&route.entries);
        targets.map(|(target, entry)| (target.id(), has_waves, format!("route[{i}].{entry}"))).collect()
    };
    let mut seen: BTreeMap<TargetId, (bool, String)> = BTreeMap::new();
    for (id, in_wave, key) in routes.iter().enumerate().flat_map(keyed) {
        let Some((first_in_wave, first)) = seen.get(&id) else {
            seen.insert(id, (in_wave, key));
            continue;
        };
        if *first_in_wave != in_wave {
            let (here, there) =
                if in_wave { ("in a wave", "outside of waves") } else { ("outside of waves", "in a wave") };
            let reason = format!(
                "has the target {id} {here}, but {first} has it {there}: put it into a wave in both routes, or remove \
                 one of the two"
            );
            return Err(Mistake::new(key, reason));
        }
    }
    Ok(())
}

/// A variable, and the key that set it first.
struct Variable {
    value: String,
    key: String,
}

type Variables = BTreeMap<String, Variable>;

fn merge_variables(routes: &[Route]) -> Result<BTreeMap<TargetId, Variables>, Mistake> {
    let mut merged: BTreeMap<TargetId, Variables> = BTreeMap::new();
    for (i, route) in routes.iter().enumerate() {
        let targets = route.targets.iter().zip(&route.entries);
        for (target, entry) in targets.filter(|(target, _)| !target.variables.is_empty()) {
            let key = format!("route[{i}].{entry}.variables");
            add_variables(merged.entry(target.id()).or_default(), target, &key)?;
        }
    }
    Ok(merged)
}

/// Adds the variables of a target to those of other routes to it.
fn add_variables(known: &mut Variables, target: &Target, key: &str) -> Result<(), Mistake> {
    for (name, value) in &target.variables {
        let key = format!("{key}.{name}");
        match known.get(name) {
            None => {
                known.insert(name.clone(), Variable { value: value.clone(), key });
            }
            Some(first) if first.value == *value => {}
            Some(first) => {
                let reason = format!(
                    "`{value}`, but {} is `{}`, and both are for the target {}: write one value",
                    first.key,
                    first.value,
                    target.id()
                );
                return Err(Mistake::new(key, reason));
            }
        }
    }
    if known.len() <= variable::MOST_VARIABLES {
        return Ok(());
    }
    let reason = format!(
        "the routes to the target {} have {} variables, and CodePipeline takes at most {}: remove some",
        target.id(),
        known.len(),
        variable::MOST_VARIABLES
    );
    Err(Mistake::new(key, reason))
}
