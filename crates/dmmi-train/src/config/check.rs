//! Sizes and ranges of a configuration, before anything is read.

use super::{TrainConfig, ValConfig};

impl TrainConfig {
    /// Checks sizes and ranges; the message names the key and the remedy.
    pub(super) fn check(&self) -> Result<(), String> {
        let [height, width] = self.data.image_size;
        let need = |ok: bool, key: &str, value: &dyn std::fmt::Display, remedy: &str| {
            if ok { Ok(()) } else { Err(format!("{key} = {value}: {remedy}")) }
        };
        let o = &self.optimizer;
        let s = &self.schedule;
        let side = |n: usize| (32..=4096).contains(&n);
        need(
            side(height) && side(width),
            "data.image_size",
            &format!("[{height}, {width}]"),
            "[height, width] between 32 and 4096 pixels are possible",
        )?;
        need(
            (3..=512).contains(&self.data.max_words),
            "data.max_words",
            &self.data.max_words,
            "between 3 ([CLS], a word, [SEP]) and 512 are possible",
        )?;
        need(
            (1..=256).contains(&self.data.workers),
            "data.workers",
            &self.data.workers,
            "use 1 to 256 threads",
        )?;
        need(
            self.data.cache_mb <= 1 << 20,
            "data.cache_mb",
            &self.data.cache_mb,
            "use at most 1048576 (1 TB)",
        )?;
        need(
            (1..=1024).contains(&self.data.prefetch),
            "data.prefetch",
            &self.data.prefetch,
            "use 1 to 1024 batches",
        )?;
        if let Some(ValConfig::Carve(part)) = &self.data.val {
            need(
                part.carve > 0.0 && part.carve < 1.0,
                "data.val.carve",
                &part.carve,
                "give the share of the training pictures, between 0 and 1, such as 0.05",
            )?;
        }
        self.loss.validate().map_err(|why| format!("loss.{why}"))?;
        // A loss without its branch would silently be 0.
        for (loss, weight, branch, is_on) in [
            (
                "loss.similarity",
                self.loss.similarity,
                "model.reconstruction",
                self.model.reconstruction.is_on(),
            ),
            (
                "loss.contrastive",
                self.loss.contrastive,
                "model.contrast",
                self.model.contrast.is_on(),
            ),
        ] {
            need(
                is_on || weight == 0.0,
                loss,
                &weight,
                &format!("set it to 0, because {branch} = \"off\" leaves out what it compares"),
            )?;
        }
        need(o.lr.is_finite() && o.lr > 0.0, "optimizer.lr", &o.lr, "must be above 0")?;
        need(
            o.weight_decay.is_finite() && o.weight_decay >= 0.0,
            "optimizer.weight_decay",
            &o.weight_decay,
            "must be 0 or more",
        )?;
        for beta in o.betas {
            need(
                (0.0..1.0).contains(&beta),
                "optimizer.betas",
                &beta,
                "each must be in 0 to 1, 1 excluded",
            )?;
        }
        need(o.eps.is_finite() && o.eps > 0.0, "optimizer.eps", &o.eps, "must be above 0")?;
        if let Some(norm) = o.clip_norm {
            need(
                norm.is_finite() && norm > 0.0,
                "optimizer.clip_norm",
                &norm,
                "must be above 0; leave it out for no clipping",
            )?;
        }
        for (key, scale) in [
            ("optimizer.backbone_lr_scale", o.backbone_lr_scale),
            ("optimizer.text_lr_scale", o.text_lr_scale),
        ] {
            need(scale.is_finite() && scale >= 0.0, key, &scale, "must be 0 or more")?;
        }
        if let Some(pretrain) = &self.pretrain {
            need(
                (1..=100_000_000).contains(&pretrain.steps),
                "pretrain.steps",
                &pretrain.steps,
                "use 1 to 100000000; leave [pretrain] out for none",
            )?;
            need(
                (1..=65_536).contains(&pretrain.batch_size),
                "pretrain.batch_size",
                &pretrain.batch_size,
                "use 1 to 65536",
            )?;
            need(
                pretrain.lr.is_finite() && pretrain.lr > 0.0,
                "pretrain.lr",
                &pretrain.lr,
                "must be above 0",
            )?;
        }
        need((1..=100_000).contains(&s.epochs), "schedule.epochs", &s.epochs, "use 1 to 100000")?;
        need(
            (1..=65_536).contains(&s.batch_size),
            "schedule.batch_size",
            &s.batch_size,
            "use 1 to 65536",
        )?;
        need(
            (1..=s.batch_size).contains(&s.parts),
            "schedule.parts",
            &s.parts,
            "use 1 to schedule.batch_size",
        )?;
        need(
            (1..=65_536).contains(&self.eval.batch_size),
            "eval.batch_size",
            &self.eval.batch_size,
            "use 1 to 65536",
        )?;
        need(
            s.power.is_finite() && s.power >= 0.0,
            "schedule.power",
            &s.power,
            "must be 0 or more",
        )?;
        need(self.eval.every_epochs > 0, "eval.every_epochs", &0, "must be 1 or more")?;
        need(
            self.checkpoint.keep_last > 0,
            "checkpoint.keep_last",
            &0,
            "must be 1 or more, or nothing could be resumed",
        )?;
        need(
            self.checkpoint.every_steps != Some(0),
            "checkpoint.every_steps",
            &0,
            "must be 1 or more; leave it out for one an epoch",
        )?;
        need(
            self.stop.steps != Some(0),
            "stop.steps",
            &0,
            "must be 1 or more; leave it out for the whole schedule",
        )?;
        need(
            self.stop.patience != Some(0),
            "stop.patience",
            &0,
            "must be 1 or more; leave it out for no early stop",
        )?;
        need(
            self.stop.minutes.is_none_or(|m| m.is_finite() && m > 0.0),
            "stop.minutes",
            &self.stop.minutes.unwrap_or(0.0),
            "must be above 0; leave it out for no limit",
        )?;
        need(
            i64::try_from(self.seed).is_ok(),
            "seed",
            &self.seed,
            "use at most 9223372036854775807",
        )
    }
}
