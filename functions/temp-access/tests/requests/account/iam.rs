//! An imitation of IAM with the behavior on which the function depends: IAM ignores case when it looks up a name,
//! counts inline policies together, writes unconditionally, returns policies percent-encoded, and can return outdated
//! states.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use temp_access::policy;
use temp_access::principal::Kind;

/// The result as XML, or the status and the code of an error.
pub type Answer = Result<String, (u16, &'static str)>;

const NOT_FOUND: (u16, &str) = (404, "NoSuchEntity");

/// The users and roles of the account.
#[derive(Debug, Default)]
pub struct Iam {
    principals: BTreeMap<(&'static str, String), Principal>,
    /// How many users and roles a page has; `None` if one page has all of them.
    pub page_size: Option<usize>,
}

/// A user or role.
#[derive(Debug, Clone)]
pub struct Principal {
    name: String,
    pub path: String,
    /// The value of the tag `sekisho:access`.
    pub tag: Option<&'static str>,
    pub boundary: Option<String>,
    pub policies: BTreeMap<String, String>,
    /// The policies before the last write.
    before: BTreeMap<String, String>,
}

impl Iam {
    pub fn principal(&self, kind: Kind, name: &str) -> Option<&Principal> {
        self.principals.get(&(type_name(kind), name.to_lowercase()))
    }

    pub fn principal_or_new(&mut self, kind: Kind, name: &str) -> &mut Principal {
        self.principals.entry((type_name(kind), name.to_lowercase())).or_insert_with(|| Principal {
            name: name.to_owned(),
            path: "/".to_owned(),
            tag: None,
            boundary: None,
            policies: BTreeMap::new(),
            before: BTreeMap::new(),
        })
    }

    /// Carries out a call with these form fields. If `outdated` is set, the answer shows the state before the last
    /// write.
    pub fn act(&mut self, fields: &BTreeMap<String, String>, outdated: bool) -> Answer {
        let action = &fields["Action"];
        if action == "GetAccountAuthorizationDetails" {
            assert_eq!(fields["MaxItems"], "1000");
            return Ok(self.page(outdated, fields.get("Marker").map(String::as_str)));
        }
        let kind = if action.contains("Role") { "Role" } else { "User" };
        let name = &fields[&format!("{kind}Name")];
        let principal = self.principals.get_mut(&(kind, name.to_lowercase())).ok_or(NOT_FOUND)?;
        let policy = fields.get("PolicyName");
        match (action.replace(kind, "Principal").as_str(), policy) {
            ("GetPrincipal", None) => Ok(principal.details(kind)),
            ("ListPrincipalPolicies", None) => {
                let names = principal.shown(outdated).keys().map(|name| format!("<member>{name}</member>"));
                let names = names.collect::<Vec<_>>().concat();
                Ok(format!("<PolicyNames>{names}</PolicyNames><IsTruncated>false</IsTruncated>"))
            }
            ("GetPrincipalPolicy", Some(policy)) => {
                let document = encoded(principal.shown(outdated).get(policy).ok_or(NOT_FOUND)?);
                Ok(format!(
                    "<{kind}Name>{name}</{kind}Name><PolicyName>{policy}</PolicyName>\
                     <PolicyDocument>{document}</PolicyDocument>"
                ))
            }
            ("PutPrincipalPolicy", Some(policy)) => principal.put(kind, policy, &fields["PolicyDocument"]),
            ("DeletePrincipalPolicy", Some(policy)) => principal.delete(policy),
            (other, _) => panic!("unknown call: {other}"),
        }
    }

    /// A page of all users and roles. The marker is the number of principals on earlier pages.
    fn page(&self, outdated: bool, marker: Option<&str>) -> String {
        let size = self.page_size.unwrap_or(usize::MAX);
        let begin: usize = marker.map_or(0, |marker| marker.parse().unwrap());
        let list = |kind: &str| {
            let on_page = self.principals.iter().skip(begin).take(size).filter(|((known, _), _)| *known == kind);
            let members: Vec<String> = on_page.map(|(_, principal)| principal.member(kind, outdated)).collect();
            format!("<{kind}DetailList>{}</{kind}DetailList>", members.concat())
        };
        let next = begin.saturating_add(size);
        let end = if next < self.principals.len() {
            format!("<IsTruncated>true</IsTruncated><Marker>{next}</Marker>")
        } else {
            "<IsTruncated>false</IsTruncated>".to_owned()
        };
        format!("{}{}{end}", list("User"), list("Role"))
    }
}

impl Principal {
    fn shown(&self, outdated: bool) -> &BTreeMap<String, String> {
        if outdated { &self.before } else { &self.policies }
    }

    /// The answer to `GetUser` and `GetRole`.
    fn details(&self, kind: &str) -> String {
        let (name, path) = (&self.name, &self.path);
        let tag = |tag| format!("<Tags><member><Key>sekisho:access</Key><Value>{tag}</Value></member></Tags>");
        let boundary = |arn| {
            format!(
                "<PermissionsBoundary><PermissionsBoundaryType>Policy</PermissionsBoundaryType>\
                 <PermissionsBoundaryArn>{arn}</PermissionsBoundaryArn></PermissionsBoundary>"
            )
        };
        format!(
            "<{kind}><Path>{path}</Path><{kind}Name>{name}</{kind}Name><{kind}Id>ID</{kind}Id>\
             <Arn>arn:aws:iam::333333333333:{}{path}{name}</Arn>\
             <CreateDate>2026-01-01T00:00:00Z</CreateDate>{}{}</{kind}>",
            kind.to_lowercase(),
            self.boundary.as_ref().map(boundary).unwrap_or_default(),
            self.tag.map(tag).unwrap_or_default()
        )
    }

    /// This principal's entry in a page of all users and roles.
    fn member(&self, kind: &str, outdated: bool) -> String {
        let name = &self.name;
        let policies = self.shown(outdated).iter().map(|(name, document)| {
            let document = encoded(document);
            format!("<member><PolicyName>{name}</PolicyName><PolicyDocument>{document}</PolicyDocument></member>")
        });
        let policies = policies.collect::<Vec<_>>().concat();
        format!("<member><{kind}Name>{name}</{kind}Name><{kind}PolicyList>{policies}</{kind}PolicyList></member>")
    }

    fn put(&mut self, kind: &str, policy: &str, document: &str) -> Answer {
        let mut after = self.policies.clone();
        after.insert(policy.to_owned(), document.to_owned());
        let limit = if kind == "User" { 2_048 } else { 10_240 };
        if after.values().map(|document| policy::size(document)).sum::<usize>() > limit {
            return Err((409, "LimitExceeded"));
        }
        self.before = std::mem::replace(&mut self.policies, after);
        Ok(String::new())
    }

    fn delete(&mut self, policy: &str) -> Answer {
        self.before = self.policies.clone();
        self.policies.remove(policy).map(|_| String::new()).ok_or(NOT_FOUND)
    }
}

fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::User => "User",
        Kind::Role => "Role",
        Kind::Person => panic!("IAM has no people"),
    }
}

fn encoded(document: &str) -> String {
    utf8_percent_encode(document, NON_ALPHANUMERIC).to_string()
}
