//! The rules that concern several routes: their names, and what the routes to one target have in common.

use std::collections::BTreeMap;

use super::target::{Target, TargetId};
use super::{Route, variable};
use crate::mistake::Mistake;

/// Checks the rules, and gives each target the variables of all routes to it.
pub(super) fn agree(routes: &mut [Route]) -> Result<(), Mistake> {
    unique_names(routes)?;
    one_region(routes)?;
    let variables = merge_variables(routes)?;
    for target in routes.iter_mut().flat_map(|route| &mut route.targets) {
        if let Some(merged) = variables.get(&target.id()) {
            target.variables = merged.iter().map(|(name, variable)| (name.clone(), variable.value.clone())).collect();
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

/// A variable, and the key of the target that set it first.
struct Variable {
    value: String,
    key: String,
}

fn merge_variables(routes: &[Route]) -> Result<BTreeMap<TargetId, BTreeMap<String, Variable>>, Mistake> {
    let mut merged: BTreeMap<TargetId, BTreeMap<String, Variable>> = BTreeMap::new();
    for (i, route) in routes.iter().enumerate() {
        for target in route.targets.iter().filter(|target| !target.variables.is_empty()) {
            let key = format!("route[{i}].target");
            let of_target = merged.entry(target.id()).or_default();
            for (name, value) in &target.variables {
                match of_target.get(name) {
                    Some(known) if known.value != *value => {
                        let reason = format!(
                            "the variable {name} of the target {} is `{value}` here and `{}` in {}: write one value",
                            target.id(),
                            known.value,
                            known.key
                        );
                        return Err(Mistake::new(key, reason));
                    }
                    Some(_) => {}
                    None => {
                        let variable = Variable { value: value.clone(), key: key.clone() };
                        of_target.insert(name.clone(), variable);
                    }
                }
            }
            if of_target.len() > variable::MOST_VARIABLES {
                let reason = format!(
                    "the target {} has {} variables, and CodePipeline takes at most {}: remove some",
                    target.id(),
                    of_target.len(),
                    variable::MOST_VARIABLES
                );
                return Err(Mistake::new(key, reason));
            }
        }
    }
    Ok(merged)
}
