(* The critical path of the project: the optimum of the length-weighted generalized entropy exists, is unique and
   interior, and preferences under Bradley-Terry and Plackett-Luce are those of its SimPO scores.
   a y stands for beta / |y|.  Nothing is argued in words; only the classical reals of the standard library. *)
Require Import Reals Lra List Sums Preferences.
Import ListNotations.
Open Scope R_scope.

(* ---- the pointwise inequality p log(p/q) - p + q >= 0, equality only at p = q (kl-nonnegative) ---- *)
Definition breg (p q : R) := p * (ln p - ln q) - p + q.

Lemma scale p q : 0 < p -> 0 < q -> p * exp (ln q - ln p) = q.
Proof.
  intros Hp Hq. unfold Rminus. rewrite exp_plus, exp_Ropp, !exp_ln by assumption. field. lra.
Qed.

Lemma breg_nonneg p q : 0 <= p -> 0 < q -> 0 <= breg p q.
Proof.
  intros [Hp| <-] Hq; unfold breg; [|lra].
  pose proof (scale p q Hp Hq). pose proof (exp_ineq1_le (ln q - ln p)).
  assert (p * (1 + (ln q - ln p)) <= p * exp (ln q - ln p)) by (apply Rmult_le_compat_l; lra). lra.
Qed.

Lemma breg_zero p q : 0 <= p -> 0 < q -> breg p q = 0 -> p = q.
Proof.
  intros [Hp| <-] Hq; unfold breg; intros E; [|lra].
  destruct (Req_dec (ln q - ln p) 0) as [Z|Z]; [symmetry; apply ln_inv; lra|].
  pose proof (scale p q Hp Hq). pose proof (exp_ineq1 _ Z).
  assert (p * (1 + (ln q - ln p)) < p * exp (ln q - ln p)) by (apply Rmult_lt_compat_l; lra). lra.
Qed.

Section SimPO.
Variable A : Type.

(* ---- the regularized problem ---- *)
Variable Y : list A.
Hypothesis nonempty : Y <> [].
Variable a : A -> R.
Hypothesis a_pos : forall y, 0 < a y.
Variable r : A -> R.

Definition J (p : A -> R) := sum (fun y => p y * r y - a y * (p y * ln (p y) - p y)) Y.
Definition s (p : A -> R) (y : A) := a y * ln (p y).  (* SimPO's score: (beta / |y|) log pi(y) *)

Lemma gap pi lam p : policy Y pi -> policy Y p -> (forall y, In y Y -> r y = s pi y + lam) ->
  J pi - J p = sum (fun y => a y * breg (p y) (pi y)) Y.
Proof.
  intros [_ H1] [_ H2] Hr. unfold J.
  assert (E : sum (fun y => lam * pi y) Y + -1 * sum (fun y => lam * p y) Y = 0) by (rewrite !sum_mult, H1, H2; lra).
  enough (sum (fun y => pi y * r y - a y * (pi y * ln (pi y) - pi y)) Y
          + -1 * sum (fun y => p y * r y - a y * (p y * ln (p y) - p y)) Y
          = sum (fun y => a y * breg (p y) (pi y)) Y
            + (sum (fun y => lam * pi y) Y + -1 * sum (fun y => lam * p y) Y)) by lra.
  rewrite <- !sum_mult, <- !sum_plus. apply sum_ext. intros y Hy. rewrite (Hr y Hy). unfold breg, s. ring.
Qed.

(* ---- existence of the multiplier, by the intermediate value theorem ---- *)
Definition mass (lam : R) := sum (fun y => exp ((r y - lam) / a y)) Y.

Lemma mass_continuous l : continuity (fun lam => sum (fun y => exp ((r y - lam) / a y)) l).
Proof.
  induction l as [|y t IH]; simpl; [apply continuity_const; intros ? ?; reflexivity|].
  apply (continuity_plus (fun lam => exp ((r y - lam) / a y))); [|exact IH].
  apply derivable_continuous. intros x. unfold Rdiv.
  apply (derivable_pt_comp (fun lam => (r y - lam) * / a y) exp x); [|apply derivable_pt_exp].
  apply (derivable_pt_mult (fun lam => r y - lam) (fun _ => / a y)); [|apply derivable_pt_const].
  apply (derivable_pt_minus (fun _ => r y) (fun lam => lam)); [apply derivable_pt_const|apply derivable_pt_id].
Qed.

Lemma mass_small l : forall eps, 0 < eps ->
  exists hi, forall lam, hi <= lam -> sum (fun y => exp ((r y - lam) / a y)) l < eps.
Proof.
  induction l as [|y t IH]; intros eps He; simpl; [exists 0; intros; lra|].
  destruct (IH (eps / 2)) as [hi H]; [lra|].
  exists (Rmax hi (r y - a y * ln (eps / 2))). intros lam Hl.
  assert (exp ((r y - lam) / a y) <= eps / 2).
  { rewrite <- (exp_ln (eps / 2)) by lra.
    assert ((r y - lam) / a y <= ln (eps / 2)) as [L|L].
    { apply (Rmult_le_reg_r (a y)); [apply a_pos|]. pose proof (a_pos y). field_simplify; [|lra].
      pose proof (Rmax_r hi (r y - a y * ln (eps / 2))). lra. }
    - left. apply exp_increasing, L. - right. now rewrite L. }
  specialize (H lam (Rle_trans _ _ _ (Rmax_l _ _) Hl)). lra.
Qed.

Lemma multiplier : exists lam, mass lam = 1.
Proof.
  destruct (mass_small Y (1 / 2)) as [hi Hhi]; [lra|].
  assert (exists y t, Y = y :: t) as (y & t & E) by (destruct Y; [tauto|eauto]).
  set (lo := Rmin (r y - a y) (hi - 1)).
  assert (Hlo : 1 < mass lo).
  { unfold mass. rewrite E. simpl.
    assert (0 <= sum (fun z => exp ((r z - lo) / a z)) t) by (apply sum_nonneg; intros; left; apply exp_pos).
    assert (1 <= (r y - lo) / a y).
    { pose proof (a_pos y). apply (Rmult_le_reg_r (a y)); [lra|]. field_simplify; [|lra].
      pose proof (Rmin_l (r y - a y) (hi - 1)). unfold lo. lra. }
    pose proof (exp_ineq1_le ((r y - lo) / a y)). lra. }
  destruct (IVT (fun lam => 1 - mass lam) lo hi) as [lam [_ H]].
  - apply (continuity_minus (fun _ => 1) mass); [apply continuity_const; intros ? ?; reflexivity|apply mass_continuous].
  - pose proof (Rmin_r (r y - a y) (hi - 1)). unfold lo. lra.
  - lra.
  - specialize (Hhi hi (Rle_refl _)). unfold mass. lra.
  - exists lam. lra.
Qed.

Theorem simpo_is_maximum_entropy :
  exists pi lam, policy Y pi /\ (forall y, In y Y -> 0 < pi y)
    /\ (forall y, In y Y -> r y = s pi y + lam)                                     (* r = s + lambda *)
    /\ (forall p, policy Y p -> J p <= J pi)                                          (* a maximizer *)
    /\ (forall p, policy Y p -> J p = J pi -> forall y, In y Y -> p y = pi y)         (* the only one *)
    /\ (forall w l, In w Y -> In l Y ->
          sigma (r w - r l) = sigma (a w * ln (pi w) - a l * ln (pi l)))            (* Bradley-Terry: SimPO *)
    /\ (forall ranking, incl ranking Y -> plackett_luce r ranking = plackett_luce (s pi) ranking). (* SimPO-PL *)
Proof.
  destruct multiplier as [lam Hlam].
  set (pi := fun y => exp ((r y - lam) / a y)).
  assert (Hpos : forall y, 0 < pi y) by (intros; apply exp_pos).
  assert (Hr : forall y, In y Y -> r y = s pi y + lam).
  { intros y _. unfold s, pi. rewrite ln_exp. pose proof (a_pos y). field. lra. }
  assert (Hpi : policy Y pi) by (split; [intros; left; auto|exact Hlam]).
  exists pi, lam. split; [exact Hpi|]. split; [auto|]. split; [exact Hr|]. split; [|split; [|split]].
  - intros p Hp. pose proof (gap pi lam p Hpi Hp Hr).
    assert (0 <= sum (fun y => a y * breg (p y) (pi y)) Y).
    { apply sum_nonneg. intros y Hy. apply Rmult_le_pos; [left; auto|]. apply breg_nonneg; auto. now apply Hp. }
    lra.
  - intros p Hp E y Hy. pose proof (gap pi lam p Hpi Hp Hr) as G. rewrite E in G.
    apply breg_zero; auto; [now apply Hp|].
    assert (Z : a y * breg (p y) (pi y) = 0).
    { apply (sum_zero A (fun y => a y * breg (p y) (pi y)) Y); auto; [|lra].
      intros z Hz. apply Rmult_le_pos; [left; auto|]. apply breg_nonneg; auto. now apply Hp. }
    pose proof (a_pos y). destruct (Rmult_integral _ _ Z); lra.
  - intros w l Hw Hl. rewrite <- !pl_pair with (f := r). rewrite (pl_shift A r (s pi) lam).
    + now rewrite pl_pair.
    + intros y [<-|[<-|[]]]; auto.
  - intros ranking Hin. apply (pl_shift A r (s pi) lam). intros y Hy. auto.
Qed.

(* ---- the paper's step as written, for pi proportional to exp(r / a): the residual, and exactly when it vanishes ---- *)
Theorem residual_as_written Z w l : 0 < Z ->
  let pi y := exp (r y / a y) / Z in
  (r w - r l) - (a w * ln (pi w) - a l * ln (pi l)) = (a w - a l) * ln Z
  /\ (r w - r l = a w * ln (pi w) - a l * ln (pi l) <-> a w = a l \/ Z = 1).
Proof.
  intros HZ pi.
  assert (L : forall y, a y * ln (pi y) = r y - a y * ln Z).
  { intros y. unfold pi, Rdiv. rewrite ln_mult, ln_exp, ln_Rinv; auto using exp_pos, Rinv_0_lt_compat.
    pose proof (a_pos y). field. lra. }
  rewrite !L. split; [ring|]. split.
  - intros H. assert (E : (a w - a l) * ln Z = 0) by lra. destruct (Rmult_integral _ _ E) as [D|D]; [left; lra|].
    right. apply ln_inv; [lra|lra|]. rewrite ln_1. exact D.
  - intros [E|E]; [rewrite E; ring|]. rewrite E, ln_1. ring.
Qed.
End SimPO.
