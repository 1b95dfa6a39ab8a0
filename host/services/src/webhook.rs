//! How a message is written and signed: a body of JSON whatever the template makes, and a signature as Standard
//! Webhooks wants it.
//!
//! Source: Standard Webhooks, `spec/standard-webhooks.md`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::alert::channel::Kind;
use hmac::{Hmac, KeyInit as _, Mac as _};
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Value, json};
use sha2::Sha256;

/// How a secret begins that somebody is shown.
const PREFIX: &str = "whsec_";
/// What a template may spend: some hundred lines with a line each, and no more.
const FUEL: u64 = 20_000;
/// Most bytes of a text.
const TEXT_MAX: usize = 16 * 1024;
/// Without a template of one's own.
const PLAIN: &str = "{% for alert in alerts %}[{{ alert.what }}]{% if alert.severity %} {{ alert.severity }}{% endif %} \
     {{ alert.rule }}{% if alert.agent_name %} on {{ alert.agent_name }}{% endif %}{% if alert.key %} {{ alert.key }}\
     {% endif %}: {{ alert.message }}{% if not loop.last %}\n{% endif %}{% endfor %}\
     {% if left_out %}\nand {{ left_out }} more{% endif %}";

/// A secret as it is shown once.
pub fn shown(secret: &[u8; 32]) -> String {
    format!("{PREFIX}{}", STANDARD.encode(secret))
}

/// The headers that prove a body to be ours: its id, when it is sent (seconds since 1970-01-01 UTC), the signature.
pub fn headers(secret: &[u8; 32], id: &str, at_s: i64, body: &str) -> Vec<(&'static str, String)> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key may be of any length");
    mac.update(format!("{id}.{at_s}.{body}").as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    vec![("webhook-id", id.to_owned()), ("webhook-timestamp", at_s.to_string()), ("webhook-signature", signature)]
}

/// The text that a template makes of alerts.
///
/// # Errors
/// What is wrong with the template, for who wrote it.
pub fn text(template: Option<&str>, channel: &str, alerts: &[Value], left_out: usize) -> Result<String, String> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(32);
    let said = |error: minijinja::Error| {
        let line = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
        format!("{}{line}", error.kind())
    };
    let template = environment.template_from_str(template.unwrap_or(PLAIN)).map_err(said)?;
    let context = Serde(json!({ "channel": channel, "alerts": alerts, "count": alerts.len(), "left_out": left_out }));
    let mut text = template.render(context).map_err(said)?;
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    Ok(text)
}

/// The body of a message.
pub fn body(kind: Kind, what: &str, at: &str, channel: &str, text: &str, alerts: &[Value], left_out: usize) -> String {
    let body = match kind {
        Kind::Slack => json!({ "text": text }),
        Kind::Webhook => json!({
            "type": what,
            "timestamp": at,
            "data": { "channel": channel, "text": text, "alerts": alerts, "left_out": left_out },
        }),
    };
    body.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(key: &str) -> Value {
        json!({
            "what": "fired", "severity": "critical", "rule": "disk", "agent_name": "web-1", "key": key,
            "message": "97 % are in use",
        })
    }

    #[test]
    fn a_message_is_signed_over_its_id_its_time_and_its_body() {
        let headers = headers(&[7; 32], "msg_1", 1_700_000_000, r#"{"a":1}"#);
        assert_eq!(headers[0], ("webhook-id", "msg_1".to_owned()));
        assert_eq!(headers[1], ("webhook-timestamp", "1700000000".to_owned()));
        assert!(headers[2].1.starts_with("v1,") && headers[2].1.len() == 3 + 44);
        assert!(shown(&[7; 32]).starts_with("whsec_BwcH"));
        let other = super::headers(&[7; 32], "msg_1", 1_700_000_001, r#"{"a":1}"#);
        assert_ne!(headers[2], other[2]);
    }

    #[test]
    fn a_text_has_a_line_for_each_alert() {
        let plain = text(None, "ops", &[alert("/srv"), alert("")], 3).expect("it is ours");
        let line = "[fired] critical disk on web-1";
        assert_eq!(plain, format!("{line} /srv: 97 % are in use\n{line}: 97 % are in use\nand 3 more"));
        let own = "{{ channel }}: {{ count }} {{ alerts[0].nothing }}";
        assert_eq!(text(Some(own), "ops", &[alert("")], 0), Ok("ops: 1 ".to_owned()));
    }

    #[test]
    fn a_template_may_neither_run_for_ever_nor_say_too_much() {
        let endless =
            "{% for a in alerts %}{% for b in alerts %}{% for c in alerts %}x{% endfor %}{% endfor %}{% endfor %}";
        let many: Vec<Value> = (0..100).map(|_| alert("")).collect();
        assert!(text(Some(endless), "ops", &many, 0).is_err());
        assert!(text(Some("{% for"), "ops", &many, 0).expect_err("it is broken").contains("line 1"));
        let long = "é".repeat(TEXT_MAX);
        assert!(text(Some(&long), "ops", &[], 0).is_ok_and(|text| text.len() <= TEXT_MAX));
    }
}
