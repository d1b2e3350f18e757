//! Attention over rows of tokens, all heads side by side: scores, softmax and weighted sum in one operation.
//!
//! No kernel holds the scores of more than a few queries. Without a gradient to compute they take queries, keys and values
//! from where they stand (parts of one projection, windows of a map); with one (`trained`), projections as they come.

mod trained;

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use crate::attention::{merge_heads, split_heads};
use crate::dropout::{Drawn, dropout};
use crate::kernel::{
    self, HeadSize, Plan, Real, Scratch, Term, attend_head, dispatch, pack_memory,
};
use crate::matmul::{matmul, matmul_nt};
use crate::mode::Mode;
use crate::softmax::{ScoreTerms, attention_softmax};

/// Queries of a group up to which one thread takes all of them.
const WHOLE: usize = 192;
/// Queries of a piece of work in larger groups.
const PIECE: usize = 128;

/// Queries `(G, N, M d)`, keys and values `(G, K, M d)`, side by side in as many tensors as they were projected into.
#[derive(Clone, Copy, Debug)]
pub enum Projected<'a> {
    /// All in one, `(G, N, 3 M d)`.
    One(&'a Tensor),
    /// Queries; keys and values `(G, K, 2 M d)`.
    Two(&'a Tensor, &'a Tensor),
    /// Each on its own.
    Three(&'a Tensor, &'a Tensor, &'a Tensor),
}

impl Projected<'_> {
    /// Queries, keys and values.
    fn parts(self) -> Result<[Tensor; 3]> {
        let cut = |t: &Tensor, of: usize, i: usize| {
            let c = t.dim(2)? / of;
            t.narrow(2, i * c, c)
        };
        Ok(match self {
            Self::One(t) => [cut(t, 3, 0)?, cut(t, 3, 1)?, cut(t, 3, 2)?],
            Self::Two(q, kv) => [q.clone(), cut(kv, 2, 0)?, cut(kv, 2, 1)?],
            Self::Three(q, k, v) => [q.clone(), k.clone(), v.clone()],
        })
    }
}

/// [`attend`] on projections as they come, with dropout of the attention weights in training.
///
/// # Errors
/// When shapes, bias or mask do not fit each other.
pub fn attend_projected(
    x: Projected,
    heads: usize,
    terms: ScoreTerms,
    p: f64,
    mode: Mode,
) -> Result<Tensor> {
    let [q, k, v] = x.parts()?;
    check(&q, &k, &v, heads, terms)?;
    let drop = mode.is_train() && p > 0.0;
    let drawn = || match mode {
        Mode::Train(noise) if drop => Drawn::new(noise, p).map(Some),
        _ => Ok(None),
    };
    let tracked = [Some(&q), Some(&k), Some(&v), terms.bias].iter().flatten().any(|t| t.track_op());
    match kernel::plan(&q) {
        #[cfg(feature = "cuda")]
        Plan::Cuda => crate::cuda::attend(x, heads, terms, drawn()?, crate::cuda::AT_ONCE),
        Plan::Fused if !drop && !tracked => gathered(&q, &k, &v, heads, terms),
        Plan::Fused if trained::fits(x, terms) => {
            trained::attend(x, (q.dim(1)?, k.dim(1)?), heads, terms, drawn()?)
        }
        _ => composed_with(&q, &k, &v, heads, terms, |weights| dropout(weights, p, mode)),
    }
}

/// `softmax(q kᵀ / sqrt(d) + bias + mask) v` for each head: `(G, N, M d)` over `(G, K, M d)` twice to `(G, N, M d)`.
///
/// # Errors
/// When shapes, bias or mask do not fit each other.
pub fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    terms: ScoreTerms,
) -> Result<Tensor> {
    attend_projected(Projected::Three(q, k, v), heads, terms, 0.0, Mode::Eval)
}

/// The kernel without gradients.
fn gathered(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, terms: ScoreTerms) -> Result<Tensor> {
    let ((g, n, c), s) = (q.dims3()?, k.dim(1)?);
    let (q, k, v) = (rows_in_place(q)?, rows_in_place(k)?, rows_in_place(v)?);
    dispatch!(q.dtype(), T => {
        let (rq, rk, rv) = (kernel::read_rows(&q)?, kernel::read_rows(&k)?, kernel::read_rows(&v)?);
        let rq = View::<T>::new(&q, rq.slice()?)?;
        let (rk, rv) = (View::<T>::new(&k, rk.slice()?)?, View::<T>::new(&v, rv.slice()?)?);
        let size = HeadSize { queries: n, keys: s, channels: c / heads };
        let terms = Terms::<T>::new(terms, size)?;
        let ys = groups(
            (g, heads), size, &terms,
            &|g, i| rq.row(g, i), &|g, i| rk.row(g, i), &|g, i| rv.row(g, i),
        );
        crate::profile::end("forward", "attend", &[g, n, c]);
        kernel::from_vec(ys, (g, n, c))
    })
}

/// Whether all fit each other.
fn check(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, terms: ScoreTerms) -> Result<()> {
    let ((g, n, c), (gk, s, ck)) = (q.dims3()?, k.dims3()?);
    if heads == 0 || c % heads != 0 {
        bail!("{c} channels do not divide into {heads} heads");
    }
    if (gk, ck) != (g, c) || v.dims() != k.dims() || s == 0 || q.elem_count() == 0 {
        bail!("attend: queries {:?}, keys {:?}, values {:?}", q.dims(), k.dims(), v.dims());
    }
    if k.dtype() != q.dtype() || v.dtype() != q.dtype() {
        bail!("attend: queries {:?}, keys {:?}, values {:?}", q.dtype(), k.dtype(), v.dtype());
    }
    terms.check((g, heads, n, s))
}

/// The single operations: oracle of the kernels, and the path of other devices. The values are summed with what `used` makes
/// of the weights.
fn composed_with(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    terms: ScoreTerms,
    used: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let scale = 1.0 / ((q.dim(2)? / heads.max(1)) as f64).sqrt();
    let split = |xs: &Tensor| split_heads(xs, heads);
    let scores = matmul_nt(&split(q)?, &split(k)?)?;
    let weights = used(&attention_softmax(&scores, scale, terms)?)?;
    merge_heads(&matmul(&weights, &split(v)?)?)
}

/// The tensor itself when its rows lie in order inside it, otherwise a contiguous copy.
fn rows_in_place(xs: &Tensor) -> Result<Tensor> {
    let stride = xs.stride();
    if stride[2] == 1 { Ok(xs.clone()) } else { xs.contiguous() }
}

/// Rows of a `(G, N, C)` tensor whose last dimension is contiguous.
struct View<'a, T> {
    data: &'a [T],
    strides: (usize, usize),
    width: usize,
}

impl<'a, T> View<'a, T> {
    fn new(xs: &Tensor, data: &'a [T]) -> Result<Self> {
        let stride = xs.stride();
        Ok(Self { data, strides: (stride[0], stride[1]), width: xs.dim(2)? })
    }
    fn row(&self, g: usize, i: usize) -> &'a [T] {
        &self.data[g * self.strides.0 + i * self.strides.1..][..self.width]
    }
}

/// Bias and mask as the kernel takes them.
pub(crate) struct Terms<T: Real> {
    bias: Option<Scratch<T>>,
    mask: Option<(Scratch<T>, usize, bool)>,
    each: usize,
    keys: usize,
}

impl<T: Real> Terms<T> {
    pub(crate) fn new(terms: ScoreTerms, size: HeadSize) -> Result<Self> {
        let each = size.queries.next_multiple_of(kernel::COLUMNS) * size.keys;
        let turned = |t: &Tensor| -> Result<Scratch<T>> {
            let t = t.detach().contiguous()?;
            let from = kernel::read(&t)?;
            let from = from.slice::<T>()?;
            let one = size.queries * size.keys;
            let mut out = Scratch::new(from.len() / one * each);
            out.par_chunks_mut(each).zip(from.par_chunks(one)).for_each(|(out, from)| {
                kernel::term_panels(size, from, out);
            });
            Ok(out)
        };
        let mask = match terms.mask {
            None => None,
            Some(mask) if mask.dim(1)? == size.queries => {
                Some((turned(&mask.to_dtype(T::DTYPE)?)?, mask.dim(0)?, true))
            }
            Some(mask) => {
                let values = mask.detach().to_dtype(T::DTYPE)?.flatten_all()?.to_vec1::<T>()?;
                let mut out = Scratch::new(values.len());
                out.copy_from_slice(&values);
                Some((out, mask.dim(0)?, false))
            }
        };
        Ok(Self { bias: terms.bias.map(turned).transpose()?, mask, each, keys: size.keys })
    }

    /// Those of one group and head.
    fn of(&self, group: usize, head: usize) -> [Term<'_, T>; 2] {
        let bias = self.bias.as_ref();
        let mask = self.mask.as_ref().map(|(t, count, whole)| {
            let (i, each) = (group % count, if *whole { self.each } else { self.keys });
            let t = &t[i * each..(i + 1) * each];
            if *whole { Term::Panels(t) } else { Term::Keys(t) }
        });
        [
            bias.map_or(Term::None, |t| Term::Panels(&t[head * self.each..(head + 1) * self.each])),
            mask.unwrap_or(Term::None),
        ]
    }
}

/// All groups and heads, `(G, N, M d)`. `query(g, i)` and its like are rows of `M d` values.
pub(crate) fn groups<'a, T: Real>(
    (count, heads): (usize, usize),
    size: HeadSize,
    terms: &Terms<T>,
    query: &(dyn Fn(usize, usize) -> &'a [T] + Sync),
    key: &(dyn Fn(usize, usize) -> &'a [T] + Sync),
    value: &(dyn Fn(usize, usize) -> &'a [T] + Sync),
) -> Vec<T> {
    let (n, d) = (size.queries, size.channels);
    let c = heads * d;
    let mut ys = kernel::zeros::<T>(count * n * c);
    let pack = |g: usize, head: usize, memory: &mut [T]| {
        let at = head * d..(head + 1) * d;
        pack_memory(size, |i| &key(g, i)[at.clone()], |i| &value(g, i)[at.clone()], memory);
    };
    let run = |g: usize, head: usize, first: usize, memory: &[T], out: &mut [T]| {
        let at = head * d..(head + 1) * d;
        let part = HeadSize { queries: out.len() / c, ..size };
        let terms = terms.of(g, head).map(|t| t.from(first / kernel::COLUMNS, size.keys));
        let scale = T::of(1.0 / (d as f64).sqrt());
        attend_head(
            part,
            scale,
            |i| &query(g, first + i)[at.clone()],
            memory,
            terms,
            |i, from, step, by| {
                let out = &mut out[i * c + at.start..i * c + at.end];
                for (o, v) in out.iter_mut().zip(from.iter().step_by(step)) {
                    *o = *v * by;
                }
            },
        );
    };
    if n <= WHOLE {
        // Few groups in two halves, that no thread waits for the last one of another.
        let few = count < 8 * rayon::current_num_threads();
        let piece = if few { n.div_ceil(2).next_multiple_of(kernel::COLUMNS) } else { n };
        ys.par_chunks_mut((n * c).max(1)).enumerate().for_each(|(g, out)| {
            let mut memory = Scratch::new(size.memory());
            for head in 0..heads {
                pack(g, head, &mut memory);
                out.par_chunks_mut((piece * c).max(1)).enumerate().for_each(|(i, out)| {
                    run(g, head, i * piece, &memory, out);
                });
            }
        });
    } else {
        for (g, out) in ys.chunks_exact_mut(n * c).enumerate() {
            let mut memory = Scratch::new(size.memory() * heads);
            let each = memory.par_chunks_mut(size.memory()).enumerate();
            each.for_each(|(head, memory)| pack(g, head, memory));
            out.par_chunks_mut(PIECE * c).enumerate().for_each(|(i, out)| {
                for (head, memory) in memory.chunks_exact(size.memory()).enumerate() {
                    run(g, head, i * PIECE, memory, out);
                }
            });
        }
    }
    ys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Noise;
    use crate::audit::{audit, several, values};
    use candle_core::DType;

    fn composed(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        heads: usize,
        terms: ScoreTerms,
    ) -> Result<Tensor> {
        composed_with(q, k, v, heads, terms, |weights| Ok(weights.clone()))
    }

    /// `(G, N, M d)` projections in one, two or three tensors, with and without a learnt bias, a mask and dropout: the kernel
    /// and the single operations.
    #[test]
    fn attention_with_gradients_passes_the_audit() -> Result<()> {
        let noise = || Noise::new(3, 1);
        for (parts, biased, masked, p) in [
            (1, true, true, 0.0),
            (1, false, false, 0.3),
            (2, true, false, 0.3),
            (2, false, true, 0.0),
            (3, false, true, 0.3),
        ] {
            let heads = 2;
            let inputs = |g: usize, n: usize, s: usize, c: usize| {
                let s = if parts == 1 { n } else { s };
                let mut shapes: Vec<Vec<usize>> = match parts {
                    1 => vec![vec![g, n, 3 * c]],
                    2 => vec![vec![g, n, c], vec![g, s, 2 * c]],
                    _ => vec![vec![g, n, c], vec![g, s, c], vec![g, s, c]],
                };
                shapes.extend(biased.then(|| vec![heads, n, s]));
                several(&shapes.iter().map(Vec::as_slice).collect::<Vec<_>>())
            };
            let run = |x: &[Tensor], fused: bool| {
                let projected = match parts {
                    1 => Projected::One(&x[0]),
                    2 => Projected::Two(&x[0], &x[1]),
                    _ => Projected::Three(&x[0], &x[1], &x[2]),
                };
                let [q, k, v] = projected.parts()?;
                let rows = if parts == 2 { 1 } else { q.dim(1)? };
                let mask = (values(&[2, rows, k.dim(1)?], 9)? * 3.0)?.to_dtype(x[0].dtype())?;
                let terms = ScoreTerms { bias: x.get(parts), mask: masked.then_some(&mask) };
                let noise = noise();
                let mode = Mode::Train(&noise);
                if fused {
                    attend_projected(projected, heads, terms, p, mode)
                } else {
                    composed_with(&q, &k, &v, heads, terms, |weights| dropout(weights, p, mode))
                }
            };
            // More groups than pieces; more queries, or keys, than one thread takes alone.
            let name =
                format!("attend, {parts} projections, bias {biased}, mask {masked}, dropout {p}");
            let f = |x: &[Tensor]| run(x, true);
            let oracle = |x: &[Tensor]| run(x, false);
            audit(&name, &inputs(2, 3, 5, 4)?, &inputs(34, 19, 21, 8)?, &f, &oracle)?;
            crate::audit::oracle(&name, &inputs(2, 210, 23, 6)?, &f, &oracle)?;
            crate::audit::threads(&name, &inputs(2, 30, 1100, 6)?, &f)?;
        }
        Ok(())
    }

    #[test]
    fn attend_passes_the_audit() -> Result<()> {
        let (small, large) = (
            several(&[&[2, 3, 4], &[2, 5, 4], &[2, 5, 4]])?,
            several(&[&[2, 21, 12], &[2, 17, 12], &[2, 17, 12]])?,
        );
        let f = |x: &[Tensor]| attend(&x[0], &x[1], &x[2], 2, ScoreTerms::default());
        audit("attend", &small, &large, &f, &|x| {
            composed(&x[0], &x[1], &x[2], 2, ScoreTerms::default())
        })
    }

    #[test]
    fn the_kernel_agrees_with_the_composition() -> Result<()> {
        for (g, n, s, c, heads) in [
            (4, 9, 9, 6, 1),
            (4, 50, 50, 64, 2),
            (2, 16, 7, 20, 2),
            (2, 300, 290, 26, 2),
            (2, 200, 600, 96, 1),
        ] {
            let x = several(&[
                &[g, n, c],
                &[g, s, c],
                &[g, s, c],
                &[heads, n, s],
                &[2, n, s],
                &[g, 1, s],
            ])?;
            for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 4e-6)] {
                let x = x.iter().map(|t| t.to_dtype(dtype)).collect::<Result<Vec<_>>>()?;
                // Keys and values as parts of one tensor, as a projection gives them.
                let both = Tensor::cat(&[&x[1], &x[2]], 2)?;
                let (k, v) = (both.narrow(2, 0, c)?, both.narrow(2, c, c)?);
                for (bias, mask) in
                    [(None, None), (Some(3), Some(4)), (Some(3), None), (None, Some(5))]
                {
                    let terms = ScoreTerms { bias: bias.map(|i| &x[i]), mask: mask.map(|i| &x[i]) };
                    let found = attend(&x[0], &k, &v, heads, terms)?;
                    let want = composed(&x[0], &k, &v, heads, terms)?;
                    let d = (found - want)?.abs()?.max_all()?.to_dtype(DType::F64)?;
                    let d = d.to_scalar::<f64>()?;
                    assert!(d < tolerance, "{g} {n} {s} {c} {heads} {bias:?} {mask:?}: {d:e}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn wrong_shapes_are_errors() -> Result<()> {
        let x = several(&[&[2, 3, 4], &[2, 5, 4], &[2, 5, 6], &[1, 3, 5]])?;
        let none = ScoreTerms::default();
        assert!(attend(&x[0], &x[1], &x[2], 2, none).is_err());
        assert!(attend(&x[0], &x[1], &x[1], 3, none).is_err());
        let nobody = Tensor::zeros((2, 0, 4), DType::F64, x[0].device())?;
        assert!(attend(&nobody, &x[1], &x[1], 2, none).is_err());
        let bias = ScoreTerms { bias: Some(&x[3]), mask: None };
        assert!(attend(&x[0], &x[1], &x[1], 2, bias).is_err());
        Ok(())
    }
}
