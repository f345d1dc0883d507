//! One set of tensor names for all the layouts that Gemma weights come in.
//!
//! | written by | text | vision | projector |
//! |---|---|---|---|
//! | text-only models | `model.*` | | |
//! | transformers below 4.52 | `language_model.model.*` | `vision_tower.vision_model.*` | `multi_modal_projector.*` |
//! | 4.52 to 4.57 | `model.language_model.*` | `model.vision_tower.vision_model.*` | `model.multi_modal_projector.*` |
//! | 5 | `language_model.model.*` | `vision_tower.*` | `multi_modal_projector.*` |
//! | 5, a classifier | the same behind `model.model.` | | |
//!
//! Here: `embed_tokens.weight`, `layers.N.…`, `norm.weight`, `lm_head.weight`, `vision.*`,
//! `projector.*`.

/// A safetensors name as it is called here; `None` if no layout has it.
pub(crate) fn from_safetensors(name: &str) -> Option<String> {
    const VISION: [&str; 4] = [
        "model.vision_tower.vision_model.",
        "model.vision_tower.",
        "vision_tower.vision_model.",
        "vision_tower.",
    ];
    const PROJECTOR: [&str; 2] = ["model.multi_modal_projector.", "multi_modal_projector."];
    const TEXT: [&str; 3] = ["language_model.model.", "model.language_model.", "model."];
    let under = |prefixes: &[&str]| prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
    if let Some(inner) = name.strip_prefix("model.model.") {
        return from_safetensors(inner);
    }
    if let Some(rest) = under(&VISION) {
        return Some(format!("vision.{rest}"));
    }
    if let Some(rest) = under(&PROJECTOR) {
        return Some(format!("projector.{rest}"));
    }
    if name == "lm_head.weight" || name == "language_model.lm_head.weight" {
        return Some("lm_head.weight".to_owned());
    }
    under(&TEXT).map(str::to_owned)
}

/// A GGUF name as it is called here; `None` for names of other architectures.
pub(crate) fn from_gguf(name: &str) -> Option<String> {
    match name {
        "token_embd.weight" => return Some("embed_tokens.weight".to_owned()),
        "output_norm.weight" => return Some("norm.weight".to_owned()),
        "output.weight" => return Some("lm_head.weight".to_owned()),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let part = match part.strip_suffix(".weight")? {
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "attn_norm" => "input_layernorm",
        "post_attention_norm" => "post_attention_layernorm",
        "ffn_norm" => "pre_feedforward_layernorm",
        "post_ffw_norm" => "post_feedforward_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("layers.{layer}.{part}.weight"))
}

/// The name of a tensor of an mmproj file as it is called here. `swapped`: the feed-forward
/// matrices are named the other way round.
pub(crate) fn from_mmproj(name: &str, swapped: bool) -> Option<String> {
    match name {
        "v.patch_embd.weight" => {
            return Some("vision.embeddings.patch_embedding.weight".to_owned());
        }
        "v.patch_embd.bias" => return Some("vision.embeddings.patch_embedding.bias".to_owned()),
        "v.position_embd.weight" => {
            return Some("vision.embeddings.position_embedding.weight".to_owned());
        }
        "v.post_ln.weight" => return Some("vision.post_layernorm.weight".to_owned()),
        "v.post_ln.bias" => return Some("vision.post_layernorm.bias".to_owned()),
        "mm.input_projection.weight" => {
            return Some("projector.mm_input_projection_weight".to_owned());
        }
        "mm.soft_emb_norm.weight" => return Some("projector.mm_soft_emb_norm.weight".to_owned()),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("v.blk.")?.split_once('.')?;
    let (part, kind) = rest.rsplit_once('.')?;
    let part = match (part, swapped) {
        ("attn_q", _) => "self_attn.q_proj",
        ("attn_k", _) => "self_attn.k_proj",
        ("attn_v", _) => "self_attn.v_proj",
        ("attn_out", _) => "self_attn.out_proj",
        ("ffn_up", false) | ("ffn_down", true) => "mlp.fc1",
        ("ffn_down", false) | ("ffn_up", true) => "mlp.fc2",
        ("ln1", _) => "layer_norm1",
        ("ln2", _) => "layer_norm2",
        _ => return None,
    };
    Some(format!("vision.encoder.layers.{layer}.{part}.{kind}"))
}

/// Whether a name belongs to the image part, which a text model leaves aside.
pub(crate) fn is_image_part(name: &str) -> bool {
    name.starts_with("vision.") || name.starts_with("projector.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_layouts_give_one_name() {
        for (stored, expected) in [
            (
                "model.layers.3.mlp.up_proj.weight",
                "layers.3.mlp.up_proj.weight",
            ),
            (
                "language_model.model.layers.3.mlp.up_proj.weight",
                "layers.3.mlp.up_proj.weight",
            ),
            (
                "model.language_model.layers.3.mlp.up_proj.weight",
                "layers.3.mlp.up_proj.weight",
            ),
            (
                "model.model.language_model.model.layers.3.mlp.up_proj.weight",
                "layers.3.mlp.up_proj.weight",
            ),
            (
                "model.model.vision_tower.post_layernorm.bias",
                "vision.post_layernorm.bias",
            ),
            ("model.embed_tokens.weight", "embed_tokens.weight"),
            ("lm_head.weight", "lm_head.weight"),
            ("language_model.lm_head.weight", "lm_head.weight"),
            (
                "vision_tower.vision_model.post_layernorm.bias",
                "vision.post_layernorm.bias",
            ),
            (
                "model.vision_tower.vision_model.post_layernorm.bias",
                "vision.post_layernorm.bias",
            ),
            (
                "vision_tower.post_layernorm.bias",
                "vision.post_layernorm.bias",
            ),
            (
                "model.multi_modal_projector.mm_soft_emb_norm.weight",
                "projector.mm_soft_emb_norm.weight",
            ),
            (
                "multi_modal_projector.mm_input_projection_weight",
                "projector.mm_input_projection_weight",
            ),
        ] {
            assert_eq!(
                from_safetensors(stored).as_deref(),
                Some(expected),
                "{stored}"
            );
        }
        assert_eq!(from_safetensors("transformer.h.0.attn.bias"), None);
    }

    #[test]
    fn gguf_names_are_the_same_ones() {
        for (stored, expected) in [
            ("token_embd.weight", "embed_tokens.weight"),
            ("output_norm.weight", "norm.weight"),
            (
                "blk.17.attn_q_norm.weight",
                "layers.17.self_attn.q_norm.weight",
            ),
            (
                "blk.0.post_ffw_norm.weight",
                "layers.0.post_feedforward_layernorm.weight",
            ),
        ] {
            assert_eq!(from_gguf(stored).as_deref(), Some(expected));
        }
        assert_eq!(from_gguf("blk.0.attn_qkv.weight"), None);
    }
}
